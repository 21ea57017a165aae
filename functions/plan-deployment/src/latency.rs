//! From which times on a request counts as slow. They are taken from stable before there is a canary, so that it has no say in them.

use jiff::SignedDuration;
use serin::ports::{
    Counts, Fleet, HealthSignals, Measured, PortError, Reading, ResponseTimes, TrafficRouter,
};
use serin::request::{Checks, Judge};
use serin::verdict::Window;
use serin::{Deployment, SlowThreshold};
use serin_judge::planned_seconds;

use crate::preflight::{recent, silence};
use crate::{PlanDeploymentError, Planner};

/// The percentiles of stable's response times that become thresholds. One sees a version that has become slower as a whole, the
/// other one whose slowest requests have: either is blind to what the other sees.
const PERCENTILES: [f64; 2] = [90.0, 99.0];
/// How many of stable's requests a threshold must have had above it.
const LEAST_SLOW: f64 = 10.0;
/// How many times the expected part of the requests may be above a threshold, and how many times less. CloudWatch keeps times in
/// classes, many requests may take the same time, and of several target groups the slowest gives the threshold.
const PLAUSIBLE: (f64, f64) = (0.1, 3.0);

/// The thresholds of a deployment, and what there is to tell about them.
type Thresholds = (Vec<SlowThreshold>, Vec<String>);

impl<F: Fleet, R: TrafficRouter, S: HealthSignals> Planner<'_, F, R, S> {
    /// Reads stable's percentiles, and tries whether the store counts what is above them: that an Application Load Balancer's
    /// metrics have this statistic is not documented. Without it latency is not compared; that refuses no deployment.
    pub(crate) async fn slow_thresholds(
        &self,
        deployment: &Deployment,
    ) -> Result<Thresholds, PlanDeploymentError> {
        let (plan, checks) = (&deployment.plan, &deployment.checks);
        let wanted = checks.judge.as_ref().is_some_and(Judge::compares_latency);
        if !wanted || planned_seconds(plan, checks) == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        if let Some(why) = deployment.router.no_latency_because() {
            return Ok(none(why));
        }
        let window = self.lately(checks);
        let asked = PERCENTILES.map(ResponseTimes::Percentile);
        let percentiles = match self.ask(deployment, &asked, window).await? {
            Ok(percentiles) => percentiles,
            Err(why) => return Ok(none(&why)),
        };
        let mut thresholds: Vec<SlowThreshold> = Vec::new();
        for (percentile, measured) in PERCENTILES.into_iter().zip(&percentiles) {
            let Reading::Value { value, .. } = measured.reading else {
                return Ok(none(&silence(measured).unwrap_or_default()));
            };
            let ms = rounded(value);
            if ms > thresholds.last().map_or(0.0, |last| last.ms) {
                thresholds.push(SlowThreshold { percentile, ms });
            }
        }
        let counts = thresholds
            .iter()
            .flat_map(|of| [ResponseTimes::Above(of.ms), ResponseTimes::UpTo(of.ms)]);
        let asked: Vec<_> = std::iter::once(ResponseTimes::Samples)
            .chain(counts)
            .collect();
        let answers = match self.ask(deployment, &asked, window).await? {
            Ok(answers) => answers,
            Err(why) => return Ok(none(&why)),
        };
        Ok(chosen(&thresholds, &answers, window))
    }

    /// What stable's response times were; or why the store does not say, when it understands the question and refuses it.
    async fn ask(
        &self,
        deployment: &Deployment,
        asked: &[ResponseTimes],
        window: Window,
    ) -> Result<Result<Vec<Measured>, String>, PlanDeploymentError> {
        let answers = self.signals.response_times(deployment, asked, window).await;
        match answers {
            Ok(answers) => Ok(Ok(answers)),
            Err(error @ PortError::Refused { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// The time that the pre-flight looks at, in whole minutes: a percentile has no shorter period.
    fn lately(&self, checks: &Checks) -> Window {
        let window = recent(
            self.now,
            i64::from(checks.period_seconds),
            i64::from(checks.data_delay()),
        );
        let seconds = (window.seconds() + 59).div_euclid(60) * 60;
        Window {
            start: window.end - SignedDuration::from_secs(seconds),
            ..window
        }
    }
}

/// The thresholds above which the store counts about as many of stable's requests as it should.
fn chosen(thresholds: &[SlowThreshold], answers: &[Measured], window: Window) -> Thresholds {
    let Some((samples, counts)) = answers.split_first() else {
        return none("nothing was asked");
    };
    let (mut kept, mut why_not) = (Vec::new(), Vec::new());
    for (threshold, counts) in thresholds.iter().zip(counts.chunks(2)) {
        match unusable(*threshold, samples, counts) {
            None => kept.push(*threshold),
            Some(why) => why_not.push(why),
        }
    }
    if kept.is_empty() {
        return none(&why_not.join("; "));
    }
    let list = |text: fn(&SlowThreshold) -> String| {
        let texts: Vec<_> = kept.iter().map(text).collect();
        texts.join(" and ")
    };
    let mut note = format!(
        "Latency is compared by the requests slower than {} (of the canary's, {}), which was stable's {} in the {} minutes until {}.",
        list(|of| format!("{} ms", of.ms)),
        list(|of| format!("{} ms", of.canary_ms())),
        list(|of| format!("p{}", of.percentile)),
        window.seconds() / 60,
        window.end,
    );
    if !why_not.is_empty() {
        note = format!("{note} Nothing else of it is: {}.", why_not.join("; "));
    }
    (kept, vec![note])
}

/// Why requests slower than this cannot be counted, from the number of all and of those above and up to it; `None` if they can.
fn unusable(threshold: SlowThreshold, samples: &Measured, counts: &[Measured]) -> Option<String> {
    let number = |measured: &Measured| match &measured.reading {
        Reading::Value { value, .. } => Ok(Some(*value)),
        Reading::NoData => Ok(None),
        Reading::Incomplete(_) => Err(silence(measured).unwrap_or_default()),
    };
    let count = |at: usize| counts.get(at).map_or(Ok(None), number);
    let all = || Ok((number(samples)?, count(0)?, count(1)?));
    let (samples, above, up_to) = match all() {
        Ok((samples, above, up_to)) => (samples.unwrap_or(0.0), above, up_to),
        Err(why) => return Some(why),
    };
    let SlowThreshold { percentile, ms } = threshold;
    let expected = samples * threshold.share();
    // A billionth, because 1 - 0.9 is not quite a tenth.
    if expected < LEAST_SLOW - 1e-9 {
        return Some(format!(
            "stable's {samples} requests are too few for its p{percentile}"
        ));
    }
    let Some(slow) = Counts::of_times(samples, above, up_to) else {
        return Some(format!(
            "of stable's {samples} requests CloudWatch counts {} above {ms} ms and {} up to it, which are not all (statistic TC)",
            above.unwrap_or(0.0),
            up_to.unwrap_or(0.0)
        ));
    };
    let (least, most) = PLAUSIBLE;
    let plausible = (least * expected..=most * expected).contains(&slow.errors);
    (!plausible).then(|| {
        format!(
            "of stable's {samples} requests CloudWatch counts {} above {ms} ms, its p{percentile}, and not about {expected:.0} (statistic TC): it is not known there, or the times of the target groups differ too much",
            slow.errors
        )
    })
}

fn none(why: &str) -> Thresholds {
    (
        Vec::new(),
        vec![format!(
            "Latency is not compared: {}.",
            why.trim_end_matches('.')
        )],
    )
}

/// Three digits that say something: a threshold is for people to read.
fn rounded(ms: f64) -> f64 {
    format!("{ms:.2e}").parse().unwrap_or(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: f64) -> Measured {
        Measured {
            reading: Reading::Value {
                value,
                datapoints: 10,
            },
            query: "TC of TargetResponseTime".into(),
        }
    }

    fn no_data() -> Measured {
        Measured {
            reading: Reading::NoData,
            ..value(0.0)
        }
    }

    fn chosen_of(answers: &[Measured]) -> (Vec<f64>, String) {
        let thresholds = [(90.0, 182.0), (99.0, 950.0)];
        let thresholds = thresholds.map(|(percentile, ms)| SlowThreshold { percentile, ms });
        let window = Window {
            start: "2026-11-22T10:00:00Z".parse().unwrap(),
            end: "2026-11-22T10:10:00Z".parse().unwrap(),
        };
        let (kept, notes) = chosen(&thresholds, answers, window);
        (
            kept.iter().map(|kept| kept.percentile).collect(),
            notes.join(" "),
        )
    }

    #[test]
    fn a_threshold_is_kept_when_the_store_counts_about_as_much_above_it_as_there_should_be() {
        let (kept, told) = chosen_of(&[10_000.0, 1_040.0, 8_960.0, 71.0, 9_929.0].map(value));
        assert_eq!(kept, [90.0, 99.0]);
        assert_eq!(
            told,
            "Latency is compared by the requests slower than 182 ms and 950 ms (of the canary's, 237 ms and 1240 ms), which was stable's p90 and p99 in the 10 minutes until 2026-11-22T10:10:00Z."
        );
        // Many requests may take equally long, and then fewer are above a percentile.
        let ties = [10_000.0, 150.0, 9_850.0, 71.0, 9_929.0].map(value);
        assert_eq!(chosen_of(&ties).0, [90.0, 99.0]);
    }

    #[test]
    fn a_store_that_counts_something_else_leaves_a_note() {
        for answers in [
            [10_000.0, 0.0, 10_000.0, 0.0, 10_000.0].map(value),
            [10_000.0, 10_000.0, 10_000.0, 10_000.0, 10_000.0].map(value),
            [10_000.0, 9_000.0, 1_000.0, 9_900.0, 100.0].map(value),
        ] {
            let (kept, told) = chosen_of(&answers);
            assert!(kept.is_empty(), "{told}");
            assert!(told.starts_with("Latency is not compared: "), "{told}");
            assert!(told.contains("(statistic TC)"), "{told}");
        }
        let silent = [value(10_000.0), no_data(), no_data(), no_data(), no_data()];
        assert!(
            chosen_of(&silent)
                .1
                .contains("counts 0 above 182 ms and 0 up to it, which are not all")
        );
    }

    #[test]
    fn few_requests_give_no_threshold_in_the_tail() {
        let (kept, told) = chosen_of(&[600.0, 61.0, 539.0, 6.0, 594.0].map(value));
        assert_eq!(kept, [90.0]);
        assert!(
            told.ends_with("Nothing else of it is: stable's 600 requests are too few for its p99."),
            "{told}"
        );
        assert!(
            chosen_of(&[no_data(), no_data(), no_data(), no_data(), no_data()])
                .0
                .is_empty()
        );
    }

    #[test]
    fn a_threshold_is_a_number_that_people_can_read() {
        for (ms, read) in [
            (182.3456, 182.0),
            (1234.5, 1230.0),
            (0.123_45, 0.123),
            (50.0, 50.0),
        ] {
            assert!((rounded(ms) - read).abs() < 1e-12);
        }
    }
}
