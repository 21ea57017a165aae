//! Runs random simulated deployments on all cores; `cargo xtask simulate` builds and starts it.
#![expect(clippy::print_stdout, reason = "it talks to a person")]
#![expect(clippy::unwrap_used, reason = "all of this is test")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use clap::Parser;
use serde_json::json;
use serin::report::Ending;
use serin_driver::On;
use serin_driver::chance::{Outcome, run};
use serin_driver::exhaustive::{Case, PLANNED, cases};

/// Random simulated deployments.
#[derive(Parser)]
#[command(name = "cargo xtask simulate")]
struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run the exhaustive set instead: a fault on every call, invocation and state of whole deployments, one by one
    #[arg(long)]
    exhaustive: bool,
    /// Of the exhaustive set only every so manieth
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Replay this one case of the exhaustive set with its trace in words
    #[arg(long)]
    case: Option<usize>,
    /// Replay this one seed with its trace in words
    #[arg(long)]
    seed: Option<u64>,
    /// Write what came of it into a file
    #[arg(long)]
    json: Option<std::path::PathBuf>,
    /// How many threads; all cores when it is not given
    #[arg(long)]
    threads: Option<usize>,
}

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
    reaction: Option<(i64, u64)>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        let ended = ending(&outcome);
        self.runs += 1;
        self.calls += outcome.calls;
        for (kind, times) in outcome.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        for (act, times) in outcome.acts {
            *self.acts.entry(act).or_default() += times;
        }
        self.endings[ended] += 1;
        self.refused += usize::from(outcome.refused);
        if let Some(first) = outcome.broken.into_iter().next() {
            self.broken.push((outcome.seed, first));
        }
        if let Some(seconds) = outcome.reaction {
            let found = (seconds, outcome.seed);
            self.reaction = Some(self.reaction.map_or(found, |worst| worst.max(found)));
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.seed {
        return replay(move || Box::pin(run(seed, true)));
    }
    if let Some(case) = options.case {
        let found = all_cases()
            .into_iter()
            .nth(case)
            .expect("there is no such case");
        println!(
            "{:?} {:?}: {} at {}",
            found.on, found.planned, found.kind, found.place
        );
        return replay(move || Box::pin(async move { found.run(true).await }));
    }
    if options.exhaustive {
        return exhaustive(&options);
    }
    let begun = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let sum = Mutex::new(Sum::default());
    in_threads(&options, || {
        let runtime = runtime();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end {
                return;
            }
            let outcome = runtime.block_on(Box::pin(run(seed, false)));
            sum.lock().unwrap().add(outcome);
        }
    });
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
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
    if let Some((seconds, seed)) = sum.reaction {
        println!(
            "longest from the first error that CloudWatch shows to stable having all the traffic: {seconds} s (seed {seed})"
        );
    }
    println!("broken rules: {}", sum.broken.len());
    for (seed, rule) in sum.broken.iter().take(60) {
        println!(
            "  seed {seed}: {}",
            rule.chars().take(300).collect::<String>()
        );
    }
}

/// Every case of the exhaustive set.
fn all_cases() -> Vec<Case> {
    let runtime = runtime();
    let mut all = Vec::new();
    for on in [On::AppMesh, On::Alb] {
        for planned in PLANNED {
            all.extend(runtime.block_on(Box::pin(cases(on, planned))));
        }
    }
    all
}

/// What came of a kind of fault: how many runs, how many of each ending, how many with a broken rule.
type Row = [usize; 5];

fn exhaustive(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let all = all_cases();
    let next = AtomicU64::new(0);
    let table: Mutex<BTreeMap<(String, &str), Row>> = Mutex::default();
    let broken = Mutex::new(Vec::new());
    in_threads(options, || {
        let runtime = runtime();
        loop {
            let number = usize::try_from(next.fetch_add(1, Relaxed)).unwrap();
            let index = number * options.every;
            let Some(case) = all.get(index) else { return };
            let outcome = runtime.block_on(Box::pin(case.run(false)));
            let mut table = table.lock().unwrap();
            let row = table
                .entry((format!("{:?} {:?}", case.on, case.planned), case.kind))
                .or_default();
            row[0] += 1;
            row[1 + ending(&outcome)] += 1;
            if let Some(first) = outcome.broken.first() {
                row[4] += 1;
                let place = format!(
                    "{:?} {:?}, {} at {}",
                    case.on, case.planned, case.kind, case.place
                );
                broken.lock().unwrap().push((index, place, first.clone()));
            }
        }
    });
    println!(
        "{:<22} {:<28} {:>6} {:>9} {:>12} {:>16} {:>7}",
        "", "", "runs", "promoted", "rolled back", "needs attention", "broken"
    );
    let table = table.into_inner().unwrap();
    let mut total = 0;
    for ((place, kind), [runs, promoted, rolled_back, attention, wrong]) in &table {
        total += runs;
        println!(
            "{place:<22} {kind:<28} {runs:>6} {promoted:>9} {rolled_back:>12} {attention:>16} {wrong:>7}"
        );
    }
    let mut broken = broken.into_inner().unwrap();
    broken.sort();
    println!(
        "{total} runs in {:.1} s; broken rules: {}",
        begun.elapsed().as_secs_f64(),
        broken.len()
    );
    for (index, place, rule) in broken.iter().take(100) {
        println!(
            "  case {index}, {place}: {}",
            rule.chars().take(300).collect::<String>()
        );
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

fn ending(outcome: &Outcome) -> usize {
    match outcome.ending {
        Ending::Promoted => 0,
        Ending::RolledBack => 1,
        Ending::NeedsAttention => 2,
    }
}

/// Does the same in every thread.
fn in_threads(options: &Options, work: impl Fn() + Sync) {
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            std::thread::Builder::new()
                .stack_size(64 << 20)
                .spawn_scoped(scope, &work)
                .unwrap();
        }
    });
}

fn replay(
    run: impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Outcome>>> + Send + 'static,
) -> ExitCode {
    let replayed = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || runtime().block_on(run()))
        .unwrap()
        .join();
    let outcome = replayed.unwrap();
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("ended: {:?}, {} calls", outcome.ending, outcome.calls);
    for rule in &outcome.broken {
        println!("BROKEN {rule}");
    }
    ExitCode::from(u8::from(!outcome.broken.is_empty()))
}
