//! Runs simulated deployments on all cores; `cargo xtask simulate` and `cargo xtask bench` build and start it.
#![expect(clippy::print_stdout, reason = "it talks to a person")]
#![expect(clippy::unwrap_used, reason = "all of this is test")]
#![expect(clippy::disallowed_methods, reason = "it says how long it took")]

mod bench;
mod exhaustive;
mod random;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use clap::Parser;
use serin::report::Ending;
use serin_driver::chance::{Outcome, run};

/// Random simulated deployments, or a fault on every call of whole ones.
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
    /// Measure instead how fast a bad version loses its traffic, and what a deployment costs in calls and transitions
    #[arg(long)]
    bench: bool,
    /// Write what came of it into a file
    #[arg(long)]
    json: Option<std::path::PathBuf>,
    /// How many threads; all cores when it is not given
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.seed {
        return replay(move || Box::pin(run(seed, true)));
    }
    if let Some(number) = options.case {
        return exhaustive::replay_one(number);
    }
    if options.exhaustive {
        return exhaustive::exhaustive(&options);
    }
    if options.bench {
        return bench::bench(&options);
    }
    random::random(&options)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

/// The index of an ending in the tables.
fn ending(outcome: &Outcome) -> usize {
    match outcome.ending {
        Ending::Promoted => 0,
        Ending::RolledBack => 1,
        Ending::NeedsAttention => 2,
    }
}

/// Does `work` with every number below `end`, in all threads.
fn in_threads<F: Future<Output = ()>>(
    options: &Options,
    end: usize,
    work: impl Fn(usize) -> F + Sync,
) {
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            std::thread::Builder::new()
                .stack_size(64 << 20) // a whole deployment is one deep future
                .spawn_scoped(scope, || {
                    let runtime = runtime();
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= end {
                            return;
                        }
                        runtime.block_on(Box::pin(work(number)));
                    }
                })
                .unwrap();
        }
    });
}

/// Runs the seeds that the options ask for.
fn run_seeds(options: &Options, take: impl Fn(Outcome) + Sync) {
    let seeds = usize::try_from(options.seeds).unwrap();
    let take = &take;
    in_threads(options, seeds, |number| async move {
        let seed = options.from + u64::try_from(number).unwrap();
        take(run(seed, false).await);
    });
}

fn replay(
    run: impl FnOnce() -> Pin<Box<dyn Future<Output = Outcome>>> + Send + 'static,
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
