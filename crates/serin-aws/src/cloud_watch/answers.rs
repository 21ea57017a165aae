//! What CloudWatch answered to one call, put together from its pages.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{MetricDataResult, StatusCode};
use aws_smithy_types::DateTime;
use serin::ports::Reading;
use serin::verdict::Window;

/// What CloudWatch answered to one call, by query id.
#[derive(Debug)]
pub(super) struct Answers {
    /// The window that was asked for.
    window: Window,
    /// The period of the counts, in seconds.
    period: i64,
    /// Those within the window, each with its time, in seconds since 1970.
    values: BTreeMap<String, Vec<(i64, f64)>>,
    /// All that came: what is compared goes back further than the window, and CloudWatch dates a datapoint of a long period
    /// before the window's start.
    all: BTreeMap<String, Vec<(i64, f64)>>,
    /// The last status of each series, by id and label: a series that goes on over several pages is `PartialData` on all but
    /// the last, and an expression may give several series under one id.
    statuses: BTreeMap<(String, String), StatusCode>,
}

/// A stretch of time in equal intervals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intervals {
    /// From its start to its end.
    pub(super) of: Window,
    /// The length of an interval, in seconds.
    pub(super) seconds: u32,
}

impl Intervals {
    pub(super) fn number(self) -> usize {
        usize::try_from(self.of.seconds() / i64::from(self.seconds)).unwrap_or(0)
    }

    /// In which of them an instant lies, in seconds since 1970.
    fn place(self, at: i64) -> Option<usize> {
        let since = at - self.of.start.as_second();
        usize::try_from(since.div_euclid(i64::from(self.seconds))).ok()
    }
}

impl Answers {
    /// No answers yet, to a call for this window and period.
    pub(super) const fn over(window: Window, period: u32) -> Self {
        Self {
            window,
            period: period as i64,
            values: BTreeMap::new(),
            all: BTreeMap::new(),
            statuses: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, result: &MetricDataResult) {
        let id = result.id().unwrap_or_default().to_owned();
        if let Some(status) = result.status_code() {
            self.statuses.insert(
                (id.clone(), result.label().unwrap_or_default().to_owned()),
                status.clone(),
            );
        }
        let (start, end) = (self.window.start.as_second(), self.window.end.as_second());
        let points = result.timestamps().iter().zip(result.values());
        let points: Vec<_> = points.map(|(at, value)| (at.secs(), *value)).collect();
        // CloudWatch may round the window down to whole minutes; what lies outside belongs to another weight.
        let inside = points.iter().filter(|(at, _)| (start..end).contains(at));
        self.values.entry(id.clone()).or_default().extend(inside);
        self.all.entry(id).or_default().extend(points);
    }

    pub(super) fn values(&self, id: &str) -> &[(i64, f64)] {
        self.values.get(id).map_or(&[], Vec::as_slice)
    }

    /// The first status of the id that is not `Complete`.
    pub(super) fn incomplete(&self, id: &str) -> Option<Reading> {
        let series = self.statuses.iter().filter(|((of, _), _)| of == id);
        let status = series
            .map(|(_, status)| status)
            .find(|status| **status != StatusCode::Complete)?;
        Some(Reading::Incomplete(status.as_str().to_owned()))
    }

    /// Whether all of these came whole; if not, what CloudWatch says.
    pub(super) fn whole(&self, ids: &[String]) -> Result<(), String> {
        match ids.iter().find_map(|id| self.incomplete(id)) {
            Some(Reading::Incomplete(status)) => Err(status),
            _ => Ok(()),
        }
    }

    /// Whether the counts stop before the window's end: the agent gives a point in every period, a zero if need be, so the
    /// newest may lag by one, and more is silence, whatever the points before it say. A user's own metric may be sparse.
    pub(super) fn silent(&self, values: &[(i64, f64)]) -> Option<Reading> {
        let newest = values.iter().map(|(at, _)| *at).max()?;
        let since = DateTime::from_secs(newest);
        let late = self.window.end.as_second() - self.period - newest;
        (late > self.period).then(|| {
            Reading::Incomplete(format!(
                "nothing after {since} (if data always come so late, add {late} to checks.dataDelaySeconds)"
            ))
        })
    }

    /// The smaller of the two newest values of a series that has one in every period: what lasts.
    pub(super) fn lasting(&self, id: &str) -> Reading {
        if let Some(incomplete) = self.incomplete(id) {
            return incomplete;
        }
        let mut values = self.values(id).to_vec();
        if let Some(silent) = self.silent(&values) {
            return silent;
        }
        values.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let newest = values.iter().take(2).map(|(_, value)| *value);
        let lasting = newest.min_by(f64::total_cmp);
        lasting.map_or(Reading::NoData, |value| Reading::Value {
            value,
            datapoints: values.len(),
        })
    }

    /// The highest value of a series that was asked for with the whole window as its period.
    pub(super) fn whole_window(&self, id: &str) -> Reading {
        if let Some(incomplete) = self.incomplete(id) {
            return incomplete;
        }
        let values = self.all.get(id).map_or(&[][..], Vec::as_slice);
        let highest = values
            .iter()
            .map(|(_, value)| *value)
            .max_by(f64::total_cmp);
        highest.map_or(Reading::NoData, |value| Reading::Value {
            value,
            datapoints: values.len(),
        })
    }

    /// Whether there is such a series, be it an empty one.
    pub(super) fn has(&self, id: &str) -> bool {
        self.all.contains_key(id)
    }

    /// A count in each of these intervals; `None` where it has no datapoint.
    pub(super) fn by_interval(&self, id: &str, intervals: Intervals) -> Vec<Option<f64>> {
        let mut sums = vec![None; intervals.number()];
        for (at, value) in self.all.get(id).into_iter().flatten() {
            if let Some(sum) = intervals.place(*at).and_then(|place| sums.get_mut(place)) {
                *sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
        sums
    }

    /// The sum of several counts that have datapoints only when there was something to count.
    pub(super) fn total(&self, ids: &[String]) -> Reading {
        if let Some(incomplete) = ids.iter().find_map(|id| self.incomplete(id)) {
            return incomplete;
        }
        let values: Vec<_> = ids.iter().flat_map(|id| self.values(id)).collect();
        if values.is_empty() {
            return Reading::NoData;
        }
        Reading::Value {
            value: values.iter().map(|(_, value)| value).sum(),
            datapoints: values.len(),
        }
    }

    /// The sum of several counts that have a datapoint in every period. Without any datapoint in any of them there is no data, which is not zero.
    pub(super) fn sum(&self, ids: &[String]) -> Reading {
        let total = self.total(ids);
        let Reading::Value { .. } = total else {
            return total;
        };
        let values: Vec<_> = ids.iter().flat_map(|id| self.values(id)).copied().collect();
        self.silent(&values).unwrap_or(total)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cloud_watch) fn window() -> Window {
        Window {
            start: "2026-11-21T10:00:00Z".parse().unwrap(),
            end: "2026-11-21T10:02:00Z".parse().unwrap(),
        }
    }

    pub(in crate::cloud_watch) fn result(
        id: &str,
        status: StatusCode,
        points: &[(i64, f64)],
    ) -> MetricDataResult {
        let start = window().start.as_second();
        MetricDataResult::builder()
            .id(id)
            .label(id)
            .status_code(status)
            .set_timestamps(Some(
                points
                    .iter()
                    .map(|(at, _)| DateTime::from_secs(start + at))
                    .collect(),
            ))
            .set_values(Some(points.iter().map(|(_, value)| *value).collect()))
            .build()
    }

    pub(in crate::cloud_watch) fn answers(results: &[MetricDataResult]) -> Answers {
        let mut answers = Answers::over(window(), 60);
        for result in results {
            answers.add(result);
        }
        answers
    }

    #[test]
    fn counts_that_stop_before_the_windows_end_are_silence_whatever_came_before() {
        let reading = |seconds| {
            let points = [(0, 600.0), (60, 0.0)];
            let start = window().start;
            let end = start + jiff::SignedDuration::from_secs(seconds);
            let mut answers = Answers::over(Window { start, end }, 60);
            answers.add(&result("own_2xx", StatusCode::Complete, &points));
            answers.sum(&["own_2xx".into()])
        };
        assert!(matches!(reading(120), Reading::Value { .. }));
        assert!(
            matches!(reading(180), Reading::Value { .. }),
            "the newest may lag by one"
        );
        assert_eq!(
            reading(240),
            Reading::Incomplete(
                "nothing after 2026-11-21T10:01:00Z (if data always come so late, add 120 to checks.dataDelaySeconds)".into()
            )
        );
    }

    #[test]
    fn datapoints_outside_of_the_window_do_not_count() {
        let answers = answers(&[result(
            "own_5xx",
            StatusCode::Complete,
            &[(-60, 1000.0), (0, 1.0), (60, 2.0), (120, 1000.0)],
        )]);
        assert_eq!(
            answers.sum(&["own_5xx".into()]),
            Reading::Value {
                value: 3.0,
                datapoints: 2
            }
        );
    }

    #[test]
    fn a_series_over_two_pages_is_complete_when_its_last_page_is() {
        let answers = answers(&[
            result("own_2xx", StatusCode::PartialData, &[(0, 5.0)]),
            result("own_2xx", StatusCode::Complete, &[(60, 6.0)]),
        ]);
        assert_eq!(
            answers.sum(&["own_2xx".into()]),
            Reading::Value {
                value: 11.0,
                datapoints: 2
            }
        );
    }
}
