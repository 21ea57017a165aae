//! How long a bad version keeps its traffic, and what a deployment costs.
//!
//! All times are the simulation's: what AWS would take, not this machine. What the machine takes is the last line.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};
use serin_driver::chance::Outcome;
use serin_driver::exhaustive::{PLANNED, cost};
use serin_driver::{Disturbance, On};

use crate::{Options, run_seeds, runtime};

/// What was seen under one disturbance: each time with its seed, and how many runs ended with the traffic on the canary.
#[derive(Default)]
struct Seen {
    times: Vec<(i64, u64)>,
    kept: usize,
}

pub(crate) fn bench(options: &Options) -> ExitCode {
    let costs = costs();
    let begun = Instant::now();
    let seen: Mutex<BTreeMap<Disturbance, Seen>> = Mutex::default();
    run_seeds(options, |outcome| add(&mut seen.lock().unwrap(), &outcome));
    let reactions = reactions(seen.into_inner().unwrap());
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let per_second = options.seeds as f64 / begun.elapsed().as_secs_f64();
    println!("\n{per_second:.1} simulated deployments per second on this machine");
    if let Some(path) = &options.json {
        let all = json!({ "costs": costs, "reactions": reactions, "runs": options.seeds, "runsPerSecond": per_second });
        std::fs::write(path, format!("{all:#}\n")).unwrap();
    }
    ExitCode::SUCCESS
}

fn add(seen: &mut BTreeMap<Disturbance, Seen>, outcome: &Outcome) {
    if !outcome.shown_bad {
        return;
    }
    let seen = seen.entry(outcome.disturbance).or_default();
    match outcome.reaction {
        Some(seconds) => seen.times.push((seconds, outcome.seed)),
        None => seen.kept += 1,
    }
}

/// What a deployment without a fault costs on each router.
fn costs() -> Vec<Value> {
    println!("What a deployment of two steps costs");
    println!(
        "{:<10} {:<12} {:>10} {:>12} {:>14} {:>10}",
        "", "", "AWS calls", "invocations", "transitions", "seconds"
    );
    let mut costs = Vec::new();
    for on in [On::AppMesh, On::Alb] {
        for planned in PLANNED {
            let cost = runtime().block_on(Box::pin(cost(on, planned)));
            let (router, planned) = (format!("{on:?}"), format!("{planned:?}"));
            println!(
                "{router:<10} {planned:<12} {:>10} {:>12} {:>14} {:>10}",
                cost.calls, cost.invocations, cost.transitions, cost.seconds
            );
            costs.push(json!({
                "router": router, "planned": planned, "calls": cost.calls, "invocations": cost.invocations,
                "transitions": cost.transitions, "seconds": cost.seconds,
            }));
        }
    }
    costs
}

/// From the first datapoint of the canary's errors that CloudWatch shows to stable having all the traffic.
fn reactions(seen: BTreeMap<Disturbance, Seen>) -> Vec<Value> {
    println!(
        "\nSeconds from the first error of the canary that CloudWatch shows to stable having all the traffic"
    );
    println!(
        "{:<46} {:>6} {:>7} {:>7} {:>7}  {:<14} {:>18}",
        "disturbed by", "runs", "median", "95 %", "worst", "(seed)", "canary keeps it"
    );
    let mut all = Vec::new();
    for (disturbance, Seen { mut times, kept }) in seen {
        times.sort_unstable();
        let at = |percent: usize| {
            times
                .get((times.len().saturating_sub(1)) * percent / 100)
                .copied()
        };
        let (median, most, worst) = (at(50), at(95), at(100));
        let text = |found: Option<(i64, u64)>| {
            found.map_or_else(|| "-".to_owned(), |(seconds, _)| seconds.to_string())
        };
        let words = disturbance.to_string();
        let seed = worst.map_or_else(String::new, |(_, seed)| format!("({seed})"));
        println!(
            "{words:<46} {:>6} {:>7} {:>7} {:>7}  {seed:<14} {kept:>18}",
            times.len() + kept,
            text(median),
            text(most),
            text(worst)
        );
        let seconds = |found: Option<(i64, u64)>| found.map(|(seconds, _)| seconds);
        all.push(json!({
            "disturbedBy": words, "runs": times.len() + kept, "median": seconds(median), "percentile95": seconds(most),
            "worst": seconds(worst), "worstSeed": worst.map(|(_, seed)| seed), "canaryKeepsIt": kept,
        }));
    }
    all
}
