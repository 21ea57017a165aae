//! Over which time a step is measured, and when it has been measured long enough.

use jiff::Timestamp;
use serin::request::Checks;
use serin::verdict::Window;

/// The times of one step, from which its windows follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTimes {
    /// When the step got its weight.
    pub shifted_at: Timestamp,
    /// How long the weight is held and watched, in seconds.
    pub hold_seconds: u32,
}

/// What can be measured of a step at some instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurable {
    /// The window in which data can exist; `None` while there is none.
    pub window: Option<Window>,
    /// Whether the window covers the whole hold, so that the step may end.
    pub covers_hold: bool,
}

impl StepTimes {
    /// What can be measured at `now`.
    ///
    /// The window begins on the first whole period after the shift has settled and ends on the last one that is complete:
    /// CloudWatch's newest period is not, so data counts only `data_delay` seconds after it was made.
    pub fn measurable(&self, checks: &Checks, now: Timestamp) -> Measurable {
        let start = self.start(checks);
        let end = floor(
            now.as_second() - i64::from(checks.data_delay()),
            checks.period_seconds,
        );
        Measurable {
            window: (end > start).then(|| window(start, end)),
            covers_hold: end >= self.last_needed(checks),
        }
    }

    /// How many seconds after `now` the next check is due: an interval, or less when the hold's last data can be read
    /// before that.
    pub fn next_check_in(&self, checks: &Checks, now: Timestamp) -> u32 {
        let interval = i64::from(checks.interval_seconds);
        let delay = i64::from(checks.data_delay());
        let first = self.start(checks) + i64::from(checks.period_seconds) + delay - now.as_second();
        let last = self.last_needed(checks) + delay - now.as_second();
        let due = [first, last]
            .into_iter()
            .filter(|seconds| *seconds > 0)
            .fold(interval, i64::min);
        u32::try_from(due).unwrap_or(checks.interval_seconds)
    }

    fn start(&self, checks: &Checks) -> i64 {
        let settled = self.shifted_at.as_second() + i64::from(checks.settle_seconds);
        // A shift at a fraction of a second is rounded up too: no datapoint may begin before the traffic had settled.
        let settled = settled + i64::from(self.shifted_at.subsec_nanosecond() > 0);
        ceil(settled, checks.period_seconds)
    }

    /// The end of the hold in whole periods, but never before one period can be measured.
    fn last_needed(&self, checks: &Checks) -> i64 {
        let held = ceil(
            self.shifted_at.as_second() + i64::from(self.hold_seconds),
            checks.period_seconds,
        );
        held.max(self.start(checks) + i64::from(checks.period_seconds))
    }
}

pub(crate) fn window(start: i64, end: i64) -> Window {
    let at =
        |second| Timestamp::from_second(second).expect("between two instants that were timestamps");
    Window {
        start: at(start),
        end: at(end),
    }
}

pub(crate) fn floor(second: i64, period: u32) -> i64 {
    second.div_euclid(i64::from(period)) * i64::from(period)
}

pub(crate) fn ceil(second: i64, period: u32) -> i64 {
    floor(second + i64::from(period) - 1, period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Checks {
        Checks {
            settle_seconds: 60,
            period_seconds: 60,
            data_delay_seconds: None,
            ..Checks::default()
        }
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-11-21T{text}Z").parse().unwrap()
    }

    fn step(shifted_at: &str, hold_seconds: u32) -> StepTimes {
        StepTimes {
            shifted_at: at(shifted_at),
            hold_seconds,
        }
    }

    #[test]
    fn the_window_begins_after_the_shift_has_settled_and_ends_where_data_can_exist() {
        assert_eq!(
            step("12:00:20", 300)
                .measurable(&checks(), at("12:04:59"))
                .window,
            None
        );
        let measurable = step("12:00:20", 300).measurable(&checks(), at("12:05:00"));
        assert_eq!(
            measurable.window,
            Some(Window {
                start: at("12:02:00"),
                end: at("12:03:00")
            })
        );
        assert!(!measurable.covers_hold);
    }

    #[test]
    fn the_hold_is_over_only_when_its_last_data_can_be_read() {
        assert!(
            !step("12:00:00", 300)
                .measurable(&checks(), at("12:06:59"))
                .covers_hold
        );
        assert!(
            step("12:00:00", 300)
                .measurable(&checks(), at("12:07:00"))
                .covers_hold
        );
    }

    #[test]
    fn a_hold_too_short_for_a_period_is_lengthened_until_one_can_be_measured() {
        let times = step("12:00:20", 60);
        assert!(!times.measurable(&checks(), at("12:04:59")).covers_hold);
        let measurable = times.measurable(&checks(), at("12:05:00"));
        assert!(measurable.covers_hold && measurable.window.is_some());
    }

    #[test]
    fn a_shift_within_a_second_does_not_count_the_period_that_it_began_in() {
        let checks = Checks {
            settle_seconds: 0,
            ..checks()
        };
        let measurable = step("12:00:00.5", 300).measurable(&checks, at("12:10:00"));
        assert_eq!(measurable.window.unwrap().start, at("12:01:00"));
    }

    #[test]
    fn the_next_check_is_not_later_than_the_data_that_it_waits_for() {
        let checks = Checks {
            interval_seconds: 3600,
            ..checks()
        };
        let times = step("12:00:00", 300);
        assert_eq!(times.next_check_in(&checks, at("12:00:00")), 240);
        assert_eq!(times.next_check_in(&checks, at("12:04:00")), 180);
        assert_eq!(times.next_check_in(&checks, at("12:07:00")), 3600);
    }
}
