//! Many seeds, and what came of them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;
use serin_driver::chance::Outcome;

use crate::{Options, ending, run_seeds};

/// How many broken seeds are told; the file has all of them.
const TOLD: usize = 60;

/// What came of all runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    calls: usize,
    faults: BTreeMap<&'static str, usize>,
    acts: BTreeMap<String, usize>,
    endings: [usize; 3],
    refused: usize,
    broken: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.endings[ending(&outcome)] += 1;
        self.runs += 1;
        self.calls += outcome.calls;
        for (kind, times) in outcome.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        for (act, times) in outcome.acts {
            *self.acts.entry(act).or_default() += times;
        }
        self.refused += usize::from(outcome.refused);
        if let Some(first) = outcome.broken.into_iter().next() {
            self.broken.push((outcome.seed, first));
        }
    }
}

pub(crate) fn random(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    run_seeds(options, |outcome| sum.lock().unwrap().add(outcome));
    let mut sum = sum.into_inner().unwrap();
    sum.broken.sort();
    tell(&sum, begun.elapsed().as_secs_f64());
    if let Some(path) = &options.json {
        let broken: Vec<_> = sum
            .broken
            .iter()
            .map(|(seed, rule)| json!({ "seed": seed, "rule": rule }))
            .collect();
        let [promoted, rolled_back, needs_attention] = sum.endings;
        let faults: usize = sum.faults.values().sum();
        let all = json!({
            "runs": sum.runs, "calls": sum.calls, "faults": faults,
            "endings": { "promoted": promoted, "rolledBack": rolled_back, "needsAttention": needs_attention },
            "brokenRules": broken,
        });
        std::fs::write(path, format!("{all:#}\n")).unwrap();
    }
    ExitCode::from(u8::from(!sum.broken.is_empty()))
}

fn tell(sum: &Sum, seconds: f64) {
    let [promoted, rolled_back, needs_attention] = sum.endings;
    let faults: usize = sum.faults.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let per_second = sum.runs as f64 / seconds;
    println!(
        "{} runs, {} calls, {faults} faults, in {seconds:.1} s: {per_second:.1} runs per second",
        sum.runs, sum.calls
    );
    println!(
        "endings: {promoted} promoted, {rolled_back} rolled back (of these {} refused before anything was created), {needs_attention} need attention",
        sum.refused
    );
    println!("faults: {:?}", sum.faults);
    println!("acts: {:?}", sum.acts);
    println!("broken rules: {}", sum.broken.len());
    for (seed, rule) in sum.broken.iter().take(TOLD) {
        let rule: String = rule.chars().take(300).collect();
        println!("  seed {seed}: {rule}");
    }
}
