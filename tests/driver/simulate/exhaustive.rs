//! The exhaustive set, and its table.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use serin_driver::On;
use serin_driver::exhaustive::{Case, PLANNED, cases};

use crate::{Options, ending, in_threads, replay, runtime};

/// How many broken cases are told.
const TOLD: usize = 100;

/// Every case.
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

/// Replays the case of this number with its trace in words.
pub(crate) fn replay_one(number: usize) -> ExitCode {
    let all = all_cases();
    let count = all.len();
    let Some(found) = all.into_iter().nth(number) else {
        println!(
            "there is no case {number}; they are numbered from 0 to {}",
            count - 1
        );
        return ExitCode::FAILURE;
    };
    println!("{}", in_words(&found));
    replay(move || Box::pin(async move { found.run(true).await }))
}

fn in_words(case: &Case) -> String {
    format!(
        "{:?} {:?}, {} at {}",
        case.on, case.planned, case.kind, case.place
    )
}

/// What came of a kind of fault: how many runs, how many of each ending, how many with a broken rule.
type Row = [usize; 5];

pub(crate) fn exhaustive(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let all = all_cases();
    let table: Mutex<BTreeMap<(String, &str), Row>> = Mutex::default();
    let broken = Mutex::new(Vec::new());
    let (cases, rows, wrong) = (&all, &table, &broken);
    in_threads(
        options,
        all.len().div_ceil(options.every),
        |number| async move {
            let index = number * options.every;
            let case = &cases[index];
            let outcome = case.run(false).await;
            let mut rows = rows.lock().unwrap();
            let row = rows
                .entry((format!("{:?} {:?}", case.on, case.planned), case.kind))
                .or_default();
            row[0] += 1;
            row[1 + ending(&outcome)] += 1;
            if let Some(first) = outcome.broken.first() {
                row[4] += 1;
                wrong
                    .lock()
                    .unwrap()
                    .push((index, in_words(case), first.clone()));
            }
        },
    );
    let table = table.into_inner().unwrap();
    let mut broken = broken.into_inner().unwrap();
    broken.sort();
    println!(
        "{:<22} {:<28} {:>6} {:>9} {:>12} {:>16} {:>7}",
        "", "", "runs", "promoted", "rolled back", "needs attention", "broken"
    );
    let mut total = 0;
    for ((place, kind), [runs, promoted, rolled_back, attention, wrong]) in &table {
        total += runs;
        println!(
            "{place:<22} {kind:<28} {runs:>6} {promoted:>9} {rolled_back:>12} {attention:>16} {wrong:>7}"
        );
    }
    println!(
        "{total} runs in {:.1} s; broken rules: {}",
        begun.elapsed().as_secs_f64(),
        broken.len()
    );
    for (index, place, rule) in broken.iter().take(TOLD) {
        let rule: String = rule.chars().take(300).collect();
        println!("  case {index}, {place}: {rule}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}
