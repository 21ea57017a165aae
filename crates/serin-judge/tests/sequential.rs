//! What must hold of the sequential comparison for any data.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests with small counts, and with figures for the README"
)]

use proptest::prelude::*;
use rand_distr::{Binomial, Distribution, LogNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serin::verdict::Outcome;
use serin_judge::kayenta::{Classifier, Direction, Label, MetricSettings};
use serin_judge::sequential::{
    Alternatives, BetaBinomial, Counted, Decision, Detect, Judgement, Metric, Minute, Noise, Null,
    Past, Robust, Settings, Starts, Tally, compare, first_roll_back,
};

fn judged(minutes: &[Minute]) -> Judgement {
    compare(&[Metric::errors(minutes)], &Settings::default())
}

fn minute(canary: (u64, u64), stable: (u64, u64)) -> Minute {
    let tally = |(errors, requests)| Tally { requests, errors };
    Minute::new(tally(canary), tally(stable))
}

/// Better is larger.
fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Unhealthy => 0,
        Outcome::Inconclusive => 1,
        Outcome::Healthy => 2,
    }
}

fn some_minutes(at_most: usize) -> impl Strategy<Value = Vec<Minute>> {
    let minute = (1_u64..2_000, 1_u64..20_000, 0.0..0.05_f64, 0.0..0.05_f64).prop_map(
        |(canary, stable, canary_rate, stable_rate)| {
            let bad = |requests: u64, rate: f64| (requests as f64 * rate) as u64;
            minute(
                (bad(canary, canary_rate), canary),
                (bad(stable, stable_rate), stable),
            )
        },
    );
    prop::collection::vec(minute, 1..at_most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// At the newest minute; what the noise has been learned from is as before.
    #[test]
    fn more_canary_errors_in_the_newest_minute_never_make_a_verdict_better(
        minutes in some_minutes(30),
        more in 1_u64..200,
    ) {
        let mut worse = minutes.clone();
        let newest = worse.last_mut().unwrap().canary.as_mut().unwrap();
        newest.errors = (newest.errors + more).min(newest.requests);
        let (before, after) = (judged(&minutes), judged(&worse));
        prop_assert!(rank(after.outcome) <= rank(before.outcome));
        prop_assert!(after.log_e.last().unwrap() >= &(before.log_e.last().unwrap() - 1e-9));
    }

    /// At any minute, when nothing is learned from the minutes before: neither the noise nor the lasting difference.
    #[test]
    fn more_canary_errors_never_make_a_verdict_better_under_a_known_noise(
        minutes in some_minutes(30),
        at in 0_usize..30,
        more in 1_u64..200,
    ) {
        let settings = Settings {
            noise: Noise { minutes: f64::INFINITY, ..Noise::UNKNOWN },
            null: Null::Bound,
            ..Settings::default()
        };
        let at = at % minutes.len();
        let mut worse = minutes.clone();
        let canary = worse[at].canary.as_mut().unwrap();
        canary.errors = (canary.errors + more).min(canary.requests);
        let before = compare(&[Metric::errors(&minutes)], &settings);
        let after = compare(&[Metric::errors(&worse)], &settings);
        prop_assert!(rank(after.outcome) <= rank(before.outcome));
    }

    #[test]
    fn the_newest_minute_without_data_never_passes(minutes in some_minutes(40), canary in any::<bool>()) {
        let mut silent = minutes.clone();
        let newest = silent.last_mut().unwrap();
        if canary { newest.canary = None } else { newest.stable = None }
        let judgement = judged(&silent);
        prop_assert_ne!(judgement.outcome, Outcome::Healthy);
        if judgement.outcome == Outcome::Inconclusive {
            prop_assert!(judgement.sentence.starts_with("no data on"), "{}", judgement.sentence);
        }
    }

    #[test]
    fn a_roll_back_stays_and_the_lists_are_as_long_as_the_data(minutes in some_minutes(40)) {
        let judgement = judged(&minutes);
        prop_assert_eq!(judgement.decisions.len(), minutes.len());
        prop_assert_eq!(judgement.log_e.len(), minutes.len());
        let first = judgement.decisions.iter().position(|d| *d == Decision::RollBack);
        prop_assert_eq!(first, first_roll_back(&[Metric::errors(&minutes)], &Settings::default()));
        if let Some(first) = first {
            prop_assert!(judgement.decisions[first..].iter().all(|d| *d == Decision::RollBack));
        }
    }

    /// What is computed for a prefix does not change when more minutes come.
    #[test]
    fn looking_earlier_sees_the_same(minutes in some_minutes(40), cut in 1_usize..40) {
        let cut = cut.min(minutes.len());
        let (all, some) = (judged(&minutes), judged(&minutes[..cut]));
        prop_assert_eq!(&all.log_e[..cut], &some.log_e[..]);
        prop_assert_eq!(&all.decisions[..cut], &some.decisions[..]);
    }

    /// The weights' unit does not matter, nor the order of the metrics.
    #[test]
    fn the_scale_of_the_weights_and_the_order_of_the_metrics_do_not_change_a_verdict(
        one in some_minutes(20),
        other in some_minutes(20),
    ) {
        let settings = Settings::default();
        let weighted = |minutes, weight| Metric { weight, ..Metric::errors(minutes) };
        let before = compare(&[weighted(&one, 1.0), weighted(&other, 3.0)], &settings);
        let after = compare(&[weighted(&other, 75.0), weighted(&one, 25.0)], &settings);
        prop_assert_eq!(before.decisions, after.decisions);
    }

    #[test]
    fn the_interval_of_the_ratio_holds_the_ratio(minutes in some_minutes(20)) {
        let judgement = judged(&minutes);
        let evidence = &judgement.metrics[0];
        if judgement.outcome == Outcome::Unhealthy && let Some(from) = evidence.ratio_from {
            prop_assert!(evidence.ratio_to.is_none_or(|to| from <= to));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Same {
    Independent,
    Outage,
    Lasting,
    Bursty,
    ColdStart,
}

/// An hour of a service with the same version on both sides and a tenth of the traffic on the canary.
fn an_hour(kind: Same, canary: u64, rate: f64, random: &mut Xoshiro256PlusPlus) -> Vec<Minute> {
    let lasting = match kind {
        Same::Lasting => LogNormal::new(0.0, 0.1).unwrap().sample(random),
        _ => 1.0,
    };
    let errors = |requests: u64, rate: f64, random: &mut Xoshiro256PlusPlus| {
        Binomial::new(requests, rate.min(1.0))
            .unwrap()
            .sample(random)
    };
    (0..60)
        .map(|at| {
            let (mut of_canary, mut of_stable) = (rate * lasting, rate);
            match kind {
                Same::Outage if (20..30).contains(&at) => {
                    of_canary *= 20.0;
                    of_stable *= 20.0;
                }
                Same::Bursty => {
                    of_canary *= LogNormal::from_mean_cv(1.0, 0.5).unwrap().sample(random);
                    of_stable *= LogNormal::from_mean_cv(1.0, 0.5 / 3.0)
                        .unwrap()
                        .sample(random);
                }
                Same::ColdStart if at == 0 => of_canary *= 5.0,
                Same::ColdStart if at == 1 => of_canary *= 3.0,
                _ => {}
            }
            minute(
                (errors(canary, of_canary, random), canary),
                (errors(canary * 9, of_stable, random), canary * 9),
            )
        })
        .collect()
}

#[test]
fn good_versions_are_rolled_back_no_more_often_than_agreed() {
    const RUNS: u64 = 300;
    // Of 300 runs at 1 percent, more than 9 come with a probability of about 0.001.
    const MOST: usize = 9;
    let kinds = [
        Same::Independent,
        Same::Outage,
        Same::Lasting,
        Same::Bursty,
        Same::ColdStart,
    ];
    for kind in kinds {
        // At its limit on the error rate a service is above it half of the time.
        for (canary, rate, limit) in [
            (60, 0.01, None),
            (6_000, 0.001, Some(0.01)),
            (60_000, 0.001, None),
            (60_000, 0.01, Some(0.01)),
        ] {
            let settings = Settings {
                limit,
                ..Settings::default()
            };
            let rolled_back = (0..RUNS).filter(|run| {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(*run);
                let minutes = an_hour(kind, canary, rate, &mut random);
                first_roll_back(&[Metric::errors(&minutes)], &settings).is_some()
            });
            let rolled_back = rolled_back.count();
            assert!(
                rolled_back <= MOST,
                "{kind:?} with {canary} requests a minute: {rolled_back} of {RUNS}"
            );
        }
    }
}

/// The promise is one on average over lasting differences up to the margin. Here all of them are as large as can be.
#[test]
fn a_canary_lastingly_at_the_margin_is_rolled_back_no_more_often_than_agreed() {
    for canary in [60, 600, 6_000, 60_000] {
        let rolled_back = (0..300_u64).filter(|run| {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(*run);
            let stable = an_hour(Same::Independent, canary, 0.001, &mut random);
            let worse = an_hour(Same::Independent, canary, 0.00125, &mut random);
            let both = stable.iter().zip(&worse);
            let minutes: Vec<Minute> = both
                .map(|(stable, worse)| Minute {
                    canary: worse.canary,
                    ..*stable
                })
                .collect();
            judged(&minutes).outcome == Outcome::Unhealthy
        });
        let rolled_back = rolled_back.count();
        assert!(rolled_back <= 9, "{canary}: {rolled_back} of 300");
    }
}

/// Noise that multiplies a rate makes single wild minutes, which a normal distribution of counts does not know.
#[test]
fn one_wild_minute_is_not_enough() {
    let calm = minute((600, 60_000), (5_400, 540_000));
    let mut minutes = vec![calm; 30];
    minutes[21] = minute((3_000, 60_000), (5_400, 540_000));
    assert_ne!(judged(&minutes).outcome, Outcome::Unhealthy);
}

/// Under the ideal model a smaller agreed probability and a margin of 1 is kept too: the canary is exactly as stable.
#[test]
fn the_agreed_probability_is_kept_without_any_margin() {
    let settings = Settings {
        false_alarm: 0.05,
        margin: 1.0,
        ..Settings::default()
    };
    let rolled_back = (0..600_u64).filter(|run| {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(*run);
        let minutes = an_hour(Same::Independent, 600, 0.01, &mut random);
        first_roll_back(&[Metric::errors(&minutes)], &settings).is_some()
    });
    // 30 are agreed; more than 48 come with a probability of about 0.001.
    assert!(rolled_back.count() <= 48);
}

/// After how many minutes Wald's test (1945) is sure at 1 percent that the canary fails at `bad` and not at `good`, both of which it
/// knows. No test with its errors needs fewer on average (Wald and Wolfowitz 1948).
fn minutes_of_the_fastest_test(minutes: &[Minute], good: f64, bad: f64) -> usize {
    let mut log_ratio = 0.0;
    let sure = minutes.iter().position(|minute| {
        let Tally { requests, errors } = minute.canary.unwrap();
        log_ratio += errors as f64 * (bad / good).ln();
        log_ratio += (requests - errors) as f64 * ((1.0 - bad) / (1.0 - good)).ln();
        log_ratio >= 100_f64.ln()
    });
    sure.map_or(minutes.len(), |at| at + 1)
}

/// The same for Kayenta's judge, asked every five minutes from `onset` on about all minutes.
fn minutes_of_kayenta(minutes: &[Minute], onset: usize) -> usize {
    let percent = |tally: Option<Tally>| {
        let tally = tally.unwrap();
        tally.errors as f64 / tally.requests as f64 * 100.0
    };
    let stable: Vec<_> = minutes
        .iter()
        .map(|minute| percent(minute.stable))
        .collect();
    let canary: Vec<_> = minutes
        .iter()
        .map(|minute| percent(minute.canary))
        .collect();
    let settings = MetricSettings {
        direction: Direction::Increase,
        ..MetricSettings::default()
    };
    let judge = Classifier::default();
    (5..=minutes.len())
        .step_by(5)
        .filter(|until| *until > onset)
        .find(|until| {
            judge
                .judge(&stable[..*until], &canary[..*until], &settings)
                .label
                == Label::High
        })
        .unwrap_or(minutes.len())
        - onset
}

/// The least that any judge could reach in the benchmark's cells of one percentage point more on one percent, 10 requests a second.
#[test]
fn half_of_kayentas_requests_is_out_of_reach_for_any_test_of_twice_the_errors_at_few_requests() {
    const RUNS: usize = 300;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(20);
    for (onset, least) in [(0, 0.5), (30, 0.6)] {
        let (mut fastest, mut kayenta) = (0, 0);
        for _ in 0..RUNS {
            let errors = |requests, rate, random: &mut Xoshiro256PlusPlus| {
                Binomial::new(requests, rate).unwrap().sample(random)
            };
            let minutes: Vec<_> = (0..60)
                .map(|at| {
                    let rate = if at < onset { 0.01 } else { 0.02 };
                    let canary = errors(60, rate, &mut random);
                    minute((canary, 60), (errors(540, 0.01, &mut random), 540))
                })
                .collect();
            fastest += minutes_of_the_fastest_test(&minutes[onset..], 0.01, 0.02);
            kayenta += minutes_of_kayenta(&minutes, onset);
        }
        let ratio = fastest as f64 / kayenta as f64;
        println!("from minute {onset}: {ratio:.2} of Kayenta's requests");
        assert!(ratio > least, "from minute {onset}: {ratio}");
    }
}

#[test]
fn worse_canaries_are_found_at_least_as_often() {
    let mut before = 0;
    for ratio in [1.0, 2.0, 4.0, 8.0] {
        let found = (0..100_u64).filter(|run| {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(*run);
            let minutes: Vec<Minute> = an_hour(Same::Independent, 600, 0.002, &mut random)
                .into_iter()
                .map(|mut minute| {
                    let canary = minute.canary.as_mut().unwrap();
                    canary.errors = (canary.errors as f64 * ratio) as u64;
                    minute
                })
                .collect();
            judged(&minutes).outcome == Outcome::Unhealthy
        });
        let found = found.count();
        assert!(found >= before, "x{ratio}: {found} after {before}");
        before = found;
    }
    assert_eq!(before, 100);
}

#[test]
fn no_data_is_inconclusive_and_says_which_number_is_missing() {
    let canary_only = Minute {
        stable: None,
        ..minute((0, 100), (0, 900))
    };
    let stable_only = Minute {
        canary: None,
        ..minute((0, 100), (0, 900))
    };
    for (minutes, missing) in [
        (
            vec![],
            "no data on the requests of the canary and of stable",
        ),
        (
            vec![Minute::default(); 30],
            "no data on the requests of the canary and of stable",
        ),
        (vec![stable_only; 30], "no data on the canary's requests"),
        (vec![canary_only; 30], "no data on stable's requests"),
    ] {
        let judgement = judged(&minutes);
        assert_eq!(judgement.outcome, Outcome::Inconclusive);
        assert_eq!(judgement.sentence, missing);
    }
    assert_eq!(
        compare(&[], &Settings::default()).outcome,
        Outcome::Inconclusive
    );
}

#[test]
fn a_load_balancers_sums_are_read_as_it_means_them() {
    let tally = |requests, errors| Some(Tally { requests, errors });
    assert_eq!(Tally::from_sums(Some(10.0), None), tally(10, 0));
    assert_eq!(Tally::from_sums(Some(10.0), Some(3.0)), tally(10, 3));
    assert_eq!(Tally::from_sums(None, Some(3.0)), None);
    assert_eq!(Tally::from_sums(None, None), None);
    assert_eq!(Tally::from_sums(Some(0.0), None), None);
    assert_eq!(Tally::from_sums(Some(f64::NAN), None), None);
    assert_eq!(Tally::from_sums(Some(10.0), Some(-1.0)), None);
}

/// The cases of `kayenta/issue-cases.json` that are counts of errors a minute.
///
/// They come without their requests, and a series without requests cannot be compared by counts at all: four errors against
/// none are much for a tenth of the traffic and little for half of it. Here the canary has a tenth, 600 requests a minute,
/// and its tasks are warm.
#[test]
fn the_cases_in_which_users_wanted_another_verdict_end_as_they_wanted() {
    let cases = include_str!("cases/kayenta/issue-cases.json");
    let cases: serde_json::Value = serde_json::from_str(cases).unwrap();
    let counts = [
        "sparse-errors-six-minutes",
        "seven-of-ten-minutes-at-100x",
        "eight-of-ten-minutes-at-100x",
        "errors-only-in-canary-five-points",
    ];
    let mut seen = 0;
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if !counts.contains(&name) {
            continue;
        }
        seen += 1;
        assert_eq!(case["reporter_wants"], "High");
        let series = |side: &str| -> Vec<u64> {
            let series = case[side].as_array().unwrap();
            series.iter().map(|v| v.as_u64().unwrap()).collect()
        };
        let minutes: Vec<Minute> = series("experiment")
            .into_iter()
            .zip(series("control"))
            .map(|(canary, stable)| minute((canary, 600), (stable, 5_400)))
            .collect();
        let settings = Settings {
            warm_up: 0,
            ..Settings::default()
        };
        let judgement = compare(&[Metric::errors(&minutes)], &settings);
        let wanted = Outcome::Unhealthy;
        assert_eq!(judgement.outcome, wanted, "{name}: {}", judgement.sentence);
    }
    assert_eq!(seen, counts.len());
}

#[test]
fn a_tired_person_understands_the_sentence() {
    let bad = judged(&[minute((42, 1_200), (61, 10_800)); 3]);
    assert_eq!(
        bad.sentence,
        "the canary failed 42 of 1,200 requests (3.5 percent), stable 61 of 10,800 (0.56 percent): \
         at least 2.2 times as often, and by chance less often than once in 200"
    );
    let good = judged(&[minute((3, 600), (30, 5_400)); 30]);
    assert_eq!(
        good.sentence,
        "the canary failed 84 of 16,800 requests (0.5 percent), stable 840 of 151,200 (0.55 percent): \
         1 percentage point more errors would have been seen"
    );
    let few = judged(&[minute((0, 60), (0, 540)); 6]);
    assert_eq!(few.outcome, Outcome::Inconclusive);
    let late: Vec<Minute> = std::iter::repeat_n(minute((0, 600), (3, 5_400)), 30)
        .chain(std::iter::repeat_n(minute((9, 600), (3, 5_400)), 10))
        .collect();
    let late = judged(&late);
    assert_eq!(late.outcome, Outcome::Unhealthy);
    assert!(
        late.sentence.starts_with("since minute 31 "),
        "{}",
        late.sentence
    );
    let slow_minutes = [minute((600, 1_000), (90, 9_000)); 4];
    let slow = Metric {
        counted: Counted::Slower {
            canary: 350.0,
            stable: 270.0,
        },
        ..Metric::errors(&slow_minutes)
    };
    let slow = compare(&[slow], &Settings::default());
    assert!(
        slow.sentence
            .contains("answered 600 of 1,000 requests in more than 350 ms (60 percent), stable 90 of 9,000 in more than 270 ms (1 percent)"),
        "{}",
        slow.sentence
    );
}

#[test]
fn so_many_times_the_errors_would_have_shown_in_an_outage_of_both_sides() {
    // Without errors no ratio can be seen; those of an outage are as good as any.
    let settings = Settings {
        detect: Detect::Ratio(2.0),
        // As of periods of ten seconds.
        noise: Noise {
            start: 0.73,
            minutes: f64::INFINITY,
            ..Noise::UNKNOWN
        },
        intervals_per_minute: 6,
        ..Settings::default()
    };
    let seen = |in_outage: u64| {
        let calm = std::iter::repeat_n(minute((0, 3_000), (0, 9_000)), 10);
        let outage = minute((in_outage, 3_000), (3 * in_outage, 9_000));
        let minutes: Vec<_> = calm.chain(std::iter::repeat_n(outage, 4)).collect();
        compare(&[Metric::errors(&minutes)], &settings).metrics[0].seen
    };
    assert!(seen(0) < 0.1, "{}", seen(0));
    assert!(seen(60) >= 1.0, "{}", seen(60));
}

#[test]
fn a_shared_outage_is_no_reason_to_roll_back_even_above_the_limit() {
    let settings = Settings {
        limit: Some(0.01),
        ..Settings::default()
    };
    let outage = [minute((30, 600), (270, 5_400)); 30];
    let judgement = compare(&[Metric::errors(&outage)], &settings);
    assert_ne!(
        judgement.outcome,
        Outcome::Unhealthy,
        "{}",
        judgement.sentence
    );
}

#[test]
fn a_canary_above_the_limit_while_stable_is_within_it_is_rolled_back() {
    let settings = Settings {
        limit: Some(0.01),
        margin: 3.0,
        ..Settings::default()
    };
    // Twice stable's rate: within so wide a margin, but not within the limit.
    let minutes = [minute((48, 3_200), (216, 28_800)); 40];
    let judgement = compare(&[Metric::errors(&minutes)], &settings);
    assert_eq!(
        judgement.outcome,
        Outcome::Unhealthy,
        "{}",
        judgement.sentence
    );
    assert!(
        judgement.sentence.contains("above the limit of 1 percent"),
        "{}",
        judgement.sentence
    );
}

#[test]
fn enough_is_said_when_the_plan_said_it_would_be() {
    for detect in [Detect::Points(1.0), Detect::Ratio(3.0)] {
        let settings = Settings {
            detect,
            ..Settings::default()
        };
        let planned = settings.exposure(600.0, 5_400.0, 0.01, 1.0).unwrap();
        let minutes = vec![minute((6, 600), (54, 5_400)); 600];
        let judgement = compare(&[Metric::errors(&minutes)], &settings);
        let enough = judgement
            .decisions
            .iter()
            .position(|d| *d == Decision::Enough)
            .unwrap()
            + 1;
        // The noise is learned meanwhile, and this service has none.
        let planned = planned.minutes as usize;
        assert!(
            enough <= planned && enough * 3 > planned,
            "{enough} and not {planned}"
        );
    }
    assert_eq!(Settings::default().exposure(600.0, 0.0, 0.01, 1.0), None);
}

#[test]
fn new_tasks_are_given_time_to_warm_up() {
    let cold = minute((15, 600), (30, 5_400));
    let mut minutes = [minute((3, 600), (30, 5_400)); 40];
    minutes[20..22].fill(cold);
    let told = Metric {
        new_tasks: &[20],
        ..Metric::errors(&minutes)
    };
    let settings = Settings::default();
    let (told, not_told) = (
        compare(&[told], &settings),
        compare(&[Metric::errors(&minutes)], &settings),
    );
    assert!(told.log_e[21] < not_told.log_e[21]);
}

#[test]
fn a_quiet_past_lets_the_test_see_more_and_a_noisy_one_less() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    let past = |kind, random: &mut Xoshiro256PlusPlus| {
        let hours: Vec<Vec<Minute>> = (0..48)
            .map(|_| an_hour(kind, 6_000, 0.002, random))
            .collect();
        Past::learn(hours.iter().map(|hour| &hour[..]))
    };
    let quiet = past(Same::Independent, &mut random);
    assert!(quiet.noise.start <= 0.2 && quiet.spread < 0.06, "{quiet:?}");
    let noisy = past(Same::Bursty, &mut random);
    assert!(noisy.noise.start > 0.4, "{noisy:?}");
    let lasting = past(Same::Lasting, &mut random);
    assert!((0.08..0.16).contains(&lasting.spread), "{lasting:?}");
    let unknown = Past::learn(std::iter::empty());
    assert!((unknown.margin() - 1.25).abs() < 1e-6, "{unknown:?}");
}

/// The e-value is computed for all starts together, minute by minute; here it is summed up from its definition.
#[test]
fn the_e_value_is_what_its_definition_says() {
    // Half of a normal distribution, of which the margin is 2.2314 standard deviations away.
    let half_normal = [0.2901, 0.4455, 0.2015, 0.0629];
    for null in [Null::Bound, Null::Within] {
        let shares = match null {
            Null::Within => half_normal,
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        is_what_its_definition_says(null, shares);
    }
}

/// `shares` are those of the ratios from 1 to the margin that are no reason to roll back.
fn is_what_its_definition_says(null: Null, shares: [f64; 4]) {
    let ratios: Vec<f64> = [1.2, 2.0, 5.0, 50.0, 2_000.0]
        .map(|ratio| ratio * 1.25)
        .to_vec();
    let starts = [0_usize, 20, 40, 60];
    for (canary, rate, change) in [
        (60, 0.01, 1.0),
        (6_000, 0.01, 1.0),
        (6_000, 0.02, 8.0),
        (60_000, 0.05, 3.0),
    ] {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(canary);
        let mut minutes = an_hour(Same::Bursty, canary, rate, &mut random);
        let mut worse = an_hour(Same::Bursty, canary, rate * change, &mut random);
        for minute in &mut worse {
            minute.stable = Some(Tally {
                requests: canary * 9,
                errors: (canary as f64 * 9.0 * rate) as u64,
            });
        }
        minutes.extend(worse);
        let test = Robust {
            margin: 1.25,
            alternatives: Alternatives::weighted(
                [1.2, 2.0, 5.0, 50.0, 2_000.0].map(|ratio| (ratio, 1.0)),
            ),
            tail: f64::INFINITY,
            null,
            noise: None,
            most_per_minute: f64::INFINITY,
            skip: 0,
            starts: Starts::and_later([20, 40, 60]),
        };
        for (until, actual) in test.log_e(&minutes).into_iter().enumerate() {
            let since = |start: usize, ratio: f64| -> f64 {
                let terms = minutes.iter().take(until + 1).skip(start).map(|minute| {
                    let (c, b) = (minute.canary.unwrap(), minute.stable.unwrap());
                    let share = |r: f64| {
                        r * c.requests as f64 / (r * c.requests as f64 + b.requests as f64)
                    };
                    let (q, m) = (share(ratio), share(1.25));
                    c.errors as f64 * (q / m).ln() + b.errors as f64 * ((1.0 - q) / (1.0 - m)).ln()
                });
                terms.sum()
            };
            // Of the minutes before a start, as likely as if the canary were no reason to roll back.
            let harmless = |start: usize| {
                let of = |(at, share): (usize, &f64)| {
                    let ratio = 1.25_f64.powf(at as f64 / 3.0);
                    share.ln() + since(0, ratio) - since(start, ratio)
                };
                log_sum(&shares.iter().enumerate().map(of).collect::<Vec<_>>())
            };
            let mut parts = Vec::new();
            for start in starts {
                let weight: f64 = if start == 0 { 0.5 } else { 0.5 / 3.0 };
                for ratio in &ratios {
                    parts.push((weight / 5.0).ln() + since(start, *ratio) + harmless(start));
                }
            }
            let expected = log_sum(&parts) - harmless(until + 1);
            let off = (actual - expected).abs();
            assert!(
                off <= 1e-9 * expected.abs().max(1.0),
                "{canary} {change} minute {until}: {actual} is not {expected}"
            );
        }
    }
}

fn log_sum(parts: &[f64]) -> f64 {
    let largest = parts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = parts.iter().map(|part| (part - largest).exp()).sum();
    largest + sum.ln()
}

/// `ln B(a+x, b+y) - ln B(a, b)` as a sum of logarithms, which needs no special function.
#[test]
fn the_logarithm_of_the_beta_function_is_accurate_enough() {
    for (canary, errors) in [
        (0, 0),
        (0, 1),
        (3, 3),
        (15, 60),
        (500, 5_000),
        (100_000, 1_000_000),
    ] {
        for share in [0.01, 0.1, 0.5] {
            let test = BetaBinomial {
                canary,
                errors,
                share,
                concentration: 100.0,
            };
            let (a, b) = (100.0 * share, 100.0 * (1.0 - share));
            let (mut sum, mut correction) = (0.0_f64, 0.0_f64);
            // Compensated, so that the sum is more exact than what it is to prove.
            let mut add = |term: f64| {
                let term = term - correction;
                let next = sum + term;
                correction = (next - sum) - term;
                sum = next;
            };
            for j in 0..errors {
                // Alternating, so that the sum stays small.
                if j < canary {
                    add(((a + j as f64) / (100.0 + j as f64) / share).ln());
                } else {
                    let k = (j - canary) as f64;
                    add(((b + k) / (100.0 + j as f64) / (1.0 - share)).ln());
                }
            }
            let off = (test.log_e() - sum).abs();
            assert!(
                off <= 1e-9 * sum.abs().max(1.0),
                "{test:?}: {off} off {sum}"
            );
        }
    }
}
