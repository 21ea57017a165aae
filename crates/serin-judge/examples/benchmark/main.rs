//! How often a good version is rolled back, how soon a bad one is, and how many requests that costs: simulated deployments
//! of one hour with a tenth of the traffic, under several rules.
//!
//! `cargo run --release -p serin-judge --example benchmark -- [runs [rule,rule,...|speed]]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod rules;
mod simulate;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rules::{RULES, Rule};
use serin_judge::sequential::{Minute, Past, compare, first_roll_back};
use simulate::{Cell, Kind, MINUTES, SAME, WORSE};

const TRAFFIC: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
const BASES: [f64; 2] = [0.001, 0.01];
const RUNS: u64 = 2_000;
/// Rules that take long get so many times fewer runs.
const FEWER: u64 = 5;
/// Hours of the past that the last rule knows.
const PAST_HOURS: usize = 72;
const METRICS: usize = 20;

/// What a rule did in the runs of a cell.
#[derive(Debug, Clone, Default)]
struct Figures {
    runs: usize,
    /// For each roll-back after the onset, how many minutes it took.
    delays: Vec<usize>,
    /// Roll-backs before anything was wrong.
    early: usize,
    /// Canary requests served from the onset to the roll-back, or to the end of the hour.
    served: f64,
}

impl Figures {
    fn share(&self) -> f64 {
        percent(self.delays.len(), self.runs)
    }

    /// The median over all runs; `None` when fewer than half were rolled back.
    fn median(&self) -> Option<usize> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.get((self.runs - 1) / 2).copied()
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of runs")]
    fn mean_served(&self) -> f64 {
        self.served / self.runs as f64
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of runs")]
fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole as f64
}

fn figures(cell: &Cell, rule: Rule, runs: u64) -> Figures {
    let mut figures = Figures::default();
    let runs = if rule.slow() { runs / FEWER } else { runs };
    for run in 0..runs {
        let mut random = cell.random(run);
        let minutes = cell.deployment(&mut random);
        let known = match rule {
            Rule::OursWithPast => Some(*cell),
            Rule::OursWithQuietPast => Some(Cell {
                kind: Kind::Independent,
                ..*cell
            }),
            _ => None,
        };
        let past = known.map(|cell| {
            let past = cell.past(PAST_HOURS, &mut random);
            Past::learn([&past[..]])
        });
        let rolled_back = rule.judge(&minutes, past);
        figures.runs += 1;
        let until = rolled_back.unwrap_or(MINUTES);
        figures.served += requests(&minutes[cell.kind.onset().min(until)..until]);
        match rolled_back {
            Some(minute) if minute > cell.kind.onset() => {
                figures.delays.push(minute - cell.kind.onset());
            }
            Some(_) => figures.early += 1,
            None => {}
        }
    }
    figures
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn requests(minutes: &[Minute]) -> f64 {
    minutes
        .iter()
        .filter_map(|minute| minute.canary)
        .map(|tally| tally.requests as f64)
        .sum()
}

/// Twenty metrics at once, each of them a series of its own.
fn family(cell: &Cell, runs: u64) -> usize {
    let settings = rules::deployed();
    (0..runs)
        .filter(|run| {
            let mut random = cell.random(run + (1 << 40));
            let series: Vec<Vec<Minute>> =
                (0..METRICS).map(|_| cell.deployment(&mut random)).collect();
            let metrics: Vec<_> = series.iter().map(|s| rules::metric(s, None)).collect();
            first_roll_back(&metrics, &settings).is_some()
        })
        .count()
}

fn cells(kinds: &[Kind]) -> Vec<Cell> {
    let of = |kind| {
        BASES.into_iter().flat_map(move |base| {
            TRAFFIC.into_iter().map(move |traffic| Cell {
                kind,
                traffic,
                base,
            })
        })
    };
    kinds.iter().copied().flat_map(of).collect()
}

/// `work` on all of `items`, on every processor; the results are in order.
fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(at) else {
                    break done;
                };
                done.push((at, work(item)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker only computes"))
            .collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let runs = arguments
        .next()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(RUNS);
    let wanted = arguments.next();
    if wanted.as_deref() == Some("speed") {
        speed();
        return;
    }
    let rules: Vec<Rule> = RULES
        .into_iter()
        .filter(|rule| {
            wanted.as_ref().is_none_or(|wanted| {
                wanted
                    .split(',')
                    .any(|w| w.replace('_', " ") == rule.name())
            })
        })
        .collect();
    false_roll_backs(&rules, runs);
    if wanted.is_none_or(|wanted| wanted.contains("twenty")) {
        twenty(runs);
    }
    // With the regressions the past is quiet anyway.
    let rules: Vec<Rule> = rules
        .into_iter()
        .filter(|rule| *rule != Rule::OursWithQuietPast)
        .collect();
    detection(&rules, runs);
    speed();
}

/// How long one look at twenty metrics of an hour takes, with all of its evidence.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn speed() {
    const LOOKS: usize = 201;
    let settings = rules::deployed();
    println!(
        "One look at {METRICS} metrics x {MINUTES} minutes, evidence included; median of {LOOKS}\n"
    );
    println!(
        "| requests per second | ms | Kayenta's judge, ms | scipy's mannwhitneyu, ms |\n|---:|---:|---:|---:|"
    );
    for traffic in TRAFFIC {
        let cell = Cell {
            kind: Kind::Bursty,
            traffic,
            base: 0.01,
        };
        let series: Vec<Vec<Minute>> = (0..METRICS)
            .map(|run| cell.deployment(&mut cell.random(run as u64)))
            .collect();
        let metrics: Vec<_> = series.iter().map(|s| rules::metric(s, None)).collect();
        let median = |look: &dyn Fn()| {
            let mut times: Vec<f64> = (0..LOOKS)
                .map(|_| {
                    let start = std::time::Instant::now();
                    look();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[LOOKS / 2]
        };
        let ours = median(&|| {
            std::hint::black_box(compare(std::hint::black_box(&metrics), &settings));
        });
        let kayenta = median(&|| {
            for minutes in std::hint::black_box(&series) {
                std::hint::black_box(rules::label(minutes));
            }
        });
        let scipy = scipy(&series, LOOKS).map_or("-".to_owned(), |ms| format!("{ms:.2}"));
        println!("| {traffic} | {ours:.2} | {kayenta:.2} | {scipy} |");
    }
}

/// The same for `scipy.stats.mannwhitneyu`, which gives a probability and no interval, when `cargo xtask bench judge` has
/// installed it.
fn scipy(series: &[Vec<Minute>], looks: usize) -> Option<f64> {
    let python = std::env::var_os("SERIN_SCIPY_PYTHON")?;
    let metrics: Vec<_> = series
        .iter()
        .map(|minutes| rules::percentages(minutes))
        .collect();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/benchmark/mann_whitney.py"
    );
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python that was installed");
    let input = child.stdin.take().expect("it is piped");
    serde_json::to_writer(input, &(looks, metrics)).expect("it reads to the end");
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success(), "mann_whitney.py failed");
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.trim().parse().expect("it prints a number"))
}

fn all_figures(cells: &[Cell], rules: &[Rule], runs: u64) -> Vec<Vec<Figures>> {
    let work: Vec<(Cell, Rule)> = cells
        .iter()
        .flat_map(|cell| rules.iter().map(move |rule| (*cell, *rule)))
        .collect();
    let figures = on_all_processors(&work, |(cell, rule)| figures(cell, *rule, runs));
    figures
        .chunks(rules.len())
        .map(<[Figures]>::to_vec)
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a number of cells")]
fn false_roll_backs(rules: &[Rule], runs: u64) {
    let cells = cells(&SAME);
    let figures = all_figures(&cells, rules, runs);
    println!(
        "False roll-backs, percent of deployments: the worst of ten cells for each kind, and the mean of all cells\n"
    );
    let kinds: Vec<&str> = SAME.iter().map(|kind| kind.name()).collect();
    println!("| rule | {} | mean |", kinds.join(" | "));
    println!("|---|{}", "---:|".repeat(kinds.len() + 1));
    for (at, rule) in rules.iter().enumerate() {
        let of = |kind: Kind| {
            cells
                .iter()
                .zip(&figures)
                .filter(move |(cell, _)| cell.kind == kind)
                .map(|(_, figures)| figures[at].share())
        };
        let worst: Vec<String> = SAME
            .iter()
            .map(|kind| format!("{:.1}", of(*kind).fold(0.0, f64::max)))
            .collect();
        let mean = figures.iter().map(|f| f[at].share()).sum::<f64>() / figures.len() as f64;
        println!("| {} | {} | {mean:.2} |", rule.name(), worst.join(" | "));
    }
    println!();
}

fn twenty(runs: u64) {
    let cells: Vec<Cell> = cells(&SAME)
        .into_iter()
        .filter(|cell| cell.traffic >= 10.0)
        .collect();
    let runs = if runs > 1_000 { runs / 2 } else { runs };
    let counts = on_all_processors(&cells, |cell| family(cell, runs));
    println!("Twenty metrics at once, ours, percent of {runs} deployments of each cell\n");
    println!("| kind | worst cell | mean |\n|---|---:|---:|");
    for kind in SAME {
        let of: Vec<usize> = cells
            .iter()
            .zip(&counts)
            .filter(|(cell, _)| cell.kind == kind)
            .map(|(_, count)| *count)
            .collect();
        let whole = usize::try_from(runs).expect("a few thousand");
        let worst = percent(of.iter().copied().max().unwrap_or(0), whole);
        let mean = percent(of.iter().sum(), whole * of.len());
        println!("| {} | {worst:.1} | {mean:.2} |", kind.name());
    }
    println!();
}

fn detection(rules: &[Rule], runs: u64) {
    let cells = cells(&WORSE);
    let figures = all_figures(&cells, rules, runs);
    for base in BASES {
        println!(
            "Found within the hour (percent), median minute after the onset; base rate {} percent\n",
            base * 100.0
        );
        println!(
            "| regression | rule | 1/s | 10/s | 100/s | 1,000/s | 10,000/s |\n|---|---|---:|---:|---:|---:|---:|"
        );
        for kind in WORSE {
            for (at, rule) in rules.iter().enumerate() {
                let row: Vec<String> = cells
                    .iter()
                    .zip(&figures)
                    .filter(|(cell, _)| cell.kind == kind && cell.base.to_bits() == base.to_bits())
                    .map(|(_, figures)| {
                        let figures = &figures[at];
                        match figures.median() {
                            Some(minute) => format!("{:.0}, {minute}'", figures.share()),
                            None => format!("{:.0}", figures.share()),
                        }
                    })
                    .collect();
                println!(
                    "| {} | {} | {} |",
                    kind.name(),
                    rule.name(),
                    row.join(" | ")
                );
            }
        }
        println!();
    }
    let Some(kayenta) = rules.iter().position(|rule| *rule == Rule::Kayenta) else {
        return;
    };
    exposed(&cells, &figures, rules, kayenta);
}

/// Requests served by the canary, over those under Kayenta's rule.
#[expect(clippy::cast_precision_loss, reason = "a number of cells")]
fn exposed(cells: &[Cell], figures: &[Vec<Figures>], rules: &[Rule], kayenta: usize) {
    println!(
        "The canary's requests before the roll-back, over those under Kayenta's judge; from 10 requests a second up\n"
    );
    println!(
        "| rule | geometric mean | cells at most 0.5 | worst but x2 | worst x2 |\n|---|---:|---:|---:|---:|"
    );
    for (at, rule) in rules.iter().enumerate() {
        let ratios: Vec<(&Cell, f64)> = cells
            .iter()
            .zip(figures)
            .filter(|(cell, _)| cell.traffic >= 10.0)
            .map(|(cell, f)| (cell, f[at].mean_served() / f[kayenta].mean_served()))
            .collect();
        let logs: f64 = ratios.iter().map(|(_, ratio)| ratio.ln()).sum();
        let mean = (logs / ratios.len() as f64).exp();
        let low = ratios.iter().filter(|(_, ratio)| *ratio <= 0.5).count();
        // One percentage point more on 1 percent is x2 under another name.
        let twice = |cell: &Cell| {
            cell.kind == Kind::Times2 || (cell.kind == Kind::Plus1 && cell.base > 0.005)
        };
        let worst = |of: bool| {
            ratios.iter().filter(|(cell, _)| twice(cell) == of).fold(
                ("", 0.0, 0.0, 0.0),
                |worst, (cell, ratio)| {
                    if *ratio > worst.3 {
                        (cell.kind.name(), cell.traffic, cell.base, *ratio)
                    } else {
                        worst
                    }
                },
            )
        };
        let said = |(kind, traffic, base, ratio): (&str, f64, f64, f64)| {
            format!("{ratio:.2} ({kind}, {traffic}/s, {} %)", base * 100.0)
        };
        println!(
            "| {} | {mean:.2} | {low} of {} | {} | {} |",
            rule.name(),
            ratios.len(),
            said(worst(false)),
            said(worst(true))
        );
    }
    println!();
}
