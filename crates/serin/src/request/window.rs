//! When a deployment may start: days, hours and their time zone.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The change window: when a deployment may start. It is about the start only: a deployment that has begun goes on when the window
/// closes. At least one of `days` and `hours` is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeWindow {
    /// The days on which the window opens. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// From when to when, as `09:00-17:00`; `22:00-06:00` lasts until the next morning. Default: the whole day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = r"^\d\d:\d\d-\d\d:\d\d$"))]
    pub hours: Option<Hours>,
    /// The time zone of days and hours, by its name in the IANA database, as `Europe/Berlin`; daylight saving is heeded.
    pub time_zone: Zone,
    /// What happens outside it.
    #[serde(default)]
    pub outside: Outside,
    /// Why the window does not hold for this deployment; the plan's notes keep the reason.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
}

/// A day of the week.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

/// What happens to a deployment outside its change window.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Outside {
    /// It waits until the window opens.
    #[default]
    Wait,
    /// It is refused.
    Refuse,
}

/// From when to when, in minutes since midnight. `until` may be 24:00, and is on the next day if it is not after `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: u16,
    until: u16,
}

/// Why a text is no [`Hours`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// Not in the form.
    #[error("{0:?} is no time from when to when; two times as in 09:00-17:00 are expected")]
    Form(String),
    /// Both times are the same.
    #[error("{0:?} ends when it begins; leave hours out for the whole day")]
    Empty(String),
}

/// The minutes of a day.
const DAY: u16 = 24 * 60;

impl TryFrom<String> for Hours {
    type Error = HoursError;

    fn try_from(text: String) -> Result<Self, HoursError> {
        let minutes = |time: &str| {
            let (hour, minute) = time.split_once(':')?;
            let number = |digits: &str| {
                let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
                digits.parse::<u16>().ok().filter(|_| two)
            };
            let (hour, minute) = (number(hour)?, number(minute)?);
            let minutes = hour * 60 + minute;
            (minute < 60 && minutes <= DAY).then_some(minutes)
        };
        let times = text.split_once('-');
        let times = times.and_then(|(from, until)| Some((minutes(from)?, minutes(until)?)));
        match times {
            Some((from, until)) if from == until => Err(HoursError::Empty(text)),
            Some((from, until)) if from < DAY => Ok(Self { from, until }),
            _ => Err(HoursError::Form(text)),
        }
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        format!("{}-{}", time(hours.from), time(hours.until))
    }
}

/// The name of a time zone that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone(String);

/// There is no such time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time zone; a name of the IANA database as Europe/Berlin, or UTC, is expected")]
pub struct ZoneUnknown(String);

impl TryFrom<String> for Zone {
    type Error = ZoneUnknown;

    fn try_from(name: String) -> Result<Self, ZoneUnknown> {
        match zones().get(&name) {
            Ok(_) => Ok(Self(name)),
            Err(_) => Err(ZoneUnknown(name)),
        }
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}

impl Zone {
    fn rules(&self) -> TimeZone {
        zones()
            .get(&self.0)
            .expect("it was there when the name was read")
    }
}

/// The time zones that are built in: the same everywhere, and a Lambda has no others.
fn zones() -> TimeZoneDatabase {
    TimeZoneDatabase::bundled()
}

impl ChangeWindow {
    /// When it opens next; `None` while it is open.
    ///
    /// # Panics
    /// At the end of time.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = self.time_zone.rules();
        let today = now.to_zoned(zone.clone()).date();
        // It may have opened yesterday and last over midnight. A day of daylight saving may have no such hours at all; the same day of
        // the week after has.
        let spans = (-1..=14).filter_map(|days: i32| {
            let date = today.checked_add(days.days()).ok()?;
            self.on(date, &zone)
        });
        let mut next: Option<Timestamp> = None;
        for (from, until) in spans {
            if from <= now && now < until {
                return None;
            }
            if from > now && from < until {
                next = Some(next.map_or(from, |next| next.min(from)));
            }
        }
        Some(next.expect("within two weeks every day of the week comes"))
    }

    /// From when to when it is open that begins on this date.
    fn on(&self, date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.iter().any(|day| day.weekday() == date.weekday()) {
            return None;
        }
        let hours = self.hours.unwrap_or(Hours {
            from: 0,
            until: DAY,
        });
        let tomorrow = date.tomorrow().ok()?;
        let ends_on = if hours.until <= hours.from || hours.until == DAY {
            tomorrow
        } else {
            date
        };
        let at = |date: Date, minutes: u16| {
            let hour = i8::try_from(minutes / 60).ok()?;
            let minute = i8::try_from(minutes % 60).ok()?;
            let time = Time::new(hour, minute, 0, 0).ok()?;
            // A time that does not come on the day when the clocks go forward is as much later; one that comes twice is the first.
            let moment = zone.to_ambiguous_zoned(date.to_datetime(time));
            Some(moment.compatible().ok()?.timestamp())
        };
        Some((at(date, hours.from)?, at(ends_on, hours.until % DAY)?))
    }

    /// A moment as whoever wrote the window reads it.
    pub fn local(&self, at: Timestamp) -> String {
        let local = at.to_zoned(self.time_zone.rules());
        format!(
            "{} {}, {at}",
            local.strftime("%A %Y-%m-%d %H:%M"),
            self.time_zone.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], hours: &str) -> ChangeWindow {
        ChangeWindow {
            days: days.to_vec(),
            hours: (!hours.is_empty()).then(|| Hours::try_from(hours.to_owned()).unwrap()),
            time_zone: Zone::try_from("Europe/Berlin".to_owned()).unwrap(),
            outside: Outside::Wait,
            overridden: None,
        }
    }

    /// What the window says at this moment: that it is open, or when it opens.
    fn at(window: &ChangeWindow, moment: &str) -> String {
        let opens = window.opens_at(moment.parse().unwrap());
        opens.map_or("open".to_owned(), |at| at.to_string())
    }

    const WORKDAYS: [Day; 5] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];

    #[test]
    fn it_opens_and_closes_by_the_clock_of_its_time_zone() {
        // 2026-11-20 is a Friday; Berlin is an hour ahead of UTC.
        let window = window(&WORKDAYS, "09:00-17:00");
        assert_eq!(at(&window, "2026-11-20T07:59:59Z"), "2026-11-20T08:00:00Z");
        assert_eq!(at(&window, "2026-11-20T08:00:00Z"), "open");
        assert_eq!(at(&window, "2026-11-20T15:59:59Z"), "open");
        assert_eq!(
            at(&window, "2026-11-20T16:00:00Z"),
            "2026-11-23T08:00:00Z",
            "the weekend lies between"
        );
        assert_eq!(
            window.local("2026-11-23T08:00:00Z".parse().unwrap()),
            "Monday 2026-11-23 09:00 Europe/Berlin, 2026-11-23T08:00:00Z"
        );
    }

    #[test]
    fn one_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let window = window(&[Day::Fri], "22:00-06:00");
        assert_eq!(at(&window, "2026-11-20T12:00:00Z"), "2026-11-20T21:00:00Z");
        assert_eq!(at(&window, "2026-11-20T22:00:00Z"), "open");
        assert_eq!(
            at(&window, "2026-11-21T04:59:00Z"),
            "open",
            "Saturday morning"
        );
        assert_eq!(at(&window, "2026-11-21T05:00:00Z"), "2026-11-27T21:00:00Z");
    }

    #[test]
    fn without_hours_it_is_the_whole_day_and_without_days_every_day() {
        let sunday = window(&[Day::Sun], "");
        assert_eq!(
            at(&sunday, "2026-11-21T23:00:00Z"),
            "open",
            "midnight in Berlin"
        );
        assert_eq!(at(&sunday, "2026-11-22T22:59:59Z"), "open");
        assert_eq!(at(&sunday, "2026-11-22T23:00:00Z"), "2026-11-28T23:00:00Z");
        let nights = window(&[], "20:00-24:00");
        assert_eq!(at(&nights, "2026-11-22T22:59:59Z"), "open");
        assert_eq!(at(&nights, "2026-11-22T23:00:00Z"), "2026-11-23T19:00:00Z");
    }

    #[test]
    fn when_the_clocks_go_forward_and_back_it_keeps_to_the_clock() {
        // Berlin: forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00.
        let window = window(&[], "09:00-17:00");
        assert_eq!(at(&window, "2026-03-28T20:00:00Z"), "2026-03-29T07:00:00Z");
        assert_eq!(at(&window, "2026-10-24T20:00:00Z"), "2026-10-25T08:00:00Z");
        let night = super::tests::window(&[], "01:00-05:00");
        assert_eq!(
            at(&night, "2026-03-29T02:59:59Z"),
            "open",
            "three hours that night"
        );
        assert_eq!(at(&night, "2026-03-29T03:00:00Z"), "2026-03-29T23:00:00Z");
        assert_eq!(
            at(&night, "2026-10-25T03:59:59Z"),
            "open",
            "five hours that night"
        );
        assert_eq!(at(&night, "2026-10-25T04:00:00Z"), "2026-10-26T00:00:00Z");
    }

    #[test]
    fn hours_that_do_not_come_when_the_clocks_go_forward_come_an_hour_later_or_the_week_after() {
        let skipped = window(&[Day::Sun], "02:10-02:50");
        assert_eq!(at(&skipped, "2026-03-28T20:00:00Z"), "2026-03-29T01:10:00Z");
        let nothing_left = window(&[Day::Sun], "02:30-03:00");
        assert_eq!(
            at(&nothing_left, "2026-03-28T20:00:00Z"),
            "2026-04-05T00:30:00Z"
        );
        let twice = window(&[Day::Sun], "02:10-02:50");
        assert_eq!(
            at(&twice, "2026-10-24T20:00:00Z"),
            "2026-10-25T00:10:00Z",
            "the first of the two"
        );
    }

    #[test]
    fn hours_are_read_as_they_are_written() {
        for hours in ["09:00-17:00", "22:00-06:00", "00:00-24:00"] {
            let read = Hours::try_from(hours.to_owned()).unwrap();
            assert_eq!(String::from(read), hours);
        }
        for wrong in [
            "9-17",
            "09:00",
            "09:60-10:00",
            "24:00-06:00",
            "09:00-25:00",
            "+9:00-10:00",
        ] {
            let error = Hours::try_from(wrong.to_owned());
            assert_eq!(error, Err(HoursError::Form(wrong.to_owned())));
        }
    }
}
