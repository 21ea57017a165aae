//! The canary's share of the traffic over time as an SVG, with a mark for each check.

use jiff::Timestamp;
use maud::{Markup, PreEscaped, html};
use serin::history::Story;
use serin::verdict::{Outcome, cut};

use crate::theme::{Colours, Theme};

/// The height of the whole, and the room around the field, in pixels.
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 42.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 26.0;
/// The room that the page has around the chart on both sides together.
const AROUND: f64 = 32.0;
/// The least room between two labels of the time.
const LABEL: f64 = 64.0;
/// How many checks have a mark each; of more, those that found something else than the one before, and some between.
const MARKS: usize = 240;
/// The distances of two labels of the time, in seconds.
const DISTANCES: [f64; 13] = [
    60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 43200.0, 86400.0,
    172_800.0,
];
/// How much of a sentence a mark tells whoever points at it, in characters.
const LONGEST_TITLE: usize = 200;

/// The field of the chart and what of it is when.
struct Field {
    width: f64,
    from: f64,
    to: f64,
}

impl Field {
    fn x(&self, at: Timestamp) -> f64 {
        self.x_of(seconds(at))
    }

    fn x_of(&self, seconds: f64) -> f64 {
        let part = ((seconds - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        LEFT + part * (self.width - LEFT - RIGHT)
    }

    /// The times that have a label.
    fn ticks(&self) -> Vec<f64> {
        let most = ((self.width - LEFT - RIGHT) / LABEL).max(1.0);
        let distance = DISTANCES
            .into_iter()
            .find(|distance| (self.to - self.from) / distance <= most)
            .unwrap_or(604_800.0);
        let first = (self.from / distance).ceil();
        (0..100)
            .map(|number| (first + f64::from(number)) * distance)
            .take_while(|tick| *tick <= self.to)
            .collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 are far below 2^53"
)]
fn seconds(at: Timestamp) -> f64 {
    at.as_second() as f64
}

fn y(percent: f64) -> f64 {
    TOP + (1.0 - percent / 100.0) * (HEIGHT - TOP - BOTTOM)
}

/// The chart of a deployment; nothing while nothing has been told of it.
pub(crate) fn chart(story: &Story, theme: Theme, page_width: f64) -> Markup {
    let weights: Vec<(Timestamp, f64)> = story
        .notices
        .iter()
        .map(|notice| (notice.at, f64::from(notice.weight_percent.tenths()) / 10.0))
        .collect();
    let times = weights.iter().map(|(at, _)| *at);
    let times = times.chain(story.checks.iter().map(|check| check.at));
    let (Some(from), Some(to)) = (times.clone().min(), times.max()) else {
        return html! {};
    };
    let field = Field {
        width: page_width - AROUND,
        from: seconds(from),
        // A deployment that has just begun has no length.
        to: seconds(to).max(seconds(from) + 60.0),
    };
    let colours = theme.colours();
    let (width, right) = (field.width, field.width - RIGHT);
    let (line, ground) = path(&weights, &field, to);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(px(width)) height=(px(HEIGHT)) viewBox={ "0 0 " (px(width)) " " (px(HEIGHT)) }
            role="img" aria-label="The canary's share of the traffic over time, with the outcome of each check" {
            @for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
                line x1=(px(LEFT)) x2=(px(right)) y1=(px(y(percent))) y2=(px(y(percent))) stroke=(colours.line) {}
                text x=(px(LEFT - 6.0)) y=(px(y(percent) + 4.0)) text-anchor="end" fill=(colours.quiet) { (percent) " %" }
            }
            @for tick in field.ticks() {
                line x1=(px(field.x_of(tick))) x2=(px(field.x_of(tick))) y1=(px(y(0.0))) y2=(px(y(0.0) + 4.0)) stroke=(colours.quiet) {}
                text x=(px(field.x_of(tick))) y=(px(HEIGHT - 8.0)) text-anchor=(anchor(field.x_of(tick), right)) fill=(colours.quiet) { (label(tick, &field)) }
            }
            path d=(ground) fill=(colours.canary) fill-opacity="0.16" {}
            path d=(line) fill="none" stroke=(colours.canary) stroke-width="2" {}
            @for (at, percent) in risen(&weights) {
                text x=(px(field.x(at) + 3.0)) y=(px(y(percent) - 8.0)) text-anchor=(anchor(field.x(at) + 20.0, right)) fill=(colours.canary) { (percent) " %" }
            }
            @for check in marked(story) {
                g { title { (check.at.strftime("%H:%M:%S")) " " (check.outcome) ": " (cut(&check.sentence, LONGEST_TITLE)) }
                    (mark(check.outcome, field.x(check.at), y(f64::from(check.weight_percent.tenths()) / 10.0), &colours)) }
            }
        }
        (legend(&colours))
    }
}

/// A number of pixels, with at most one decimal.
fn px(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// Labels near the right end stand before their place.
fn anchor(x: f64, right: f64) -> &'static str {
    if x > right - 24.0 { "end" } else { "middle" }
}

fn label(tick: f64, field: &Field) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole number of seconds since 1970"
    )]
    let at = Timestamp::from_second(tick as i64).unwrap_or_default();
    let form = if field.to - field.from > 86_400.0 {
        "%d. %H:%M"
    } else {
        "%H:%M"
    };
    at.strftime(form).to_string()
}

/// The line of the weights in steps, and the area below it.
fn path(weights: &[(Timestamp, f64)], field: &Field, to: Timestamp) -> (String, String) {
    let mut line = String::new();
    for (at, percent) in weights {
        let (x, y) = (px(field.x(*at)), px(y(*percent)));
        if line.is_empty() {
            line = format!("M{x} {y}");
        } else {
            line = format!("{line}H{x}V{y}");
        }
    }
    let end = px(field.x(to));
    line = format!("{line}H{end}");
    let floor = px(y(0.0));
    let start = px(field.x_of(field.from));
    let ground = format!("{line}V{floor}H{start}Z");
    (line, ground)
}

/// Where the weight rises, and to what.
fn risen(weights: &[(Timestamp, f64)]) -> Vec<(Timestamp, f64)> {
    let pairs = weights.iter().zip(weights.iter().skip(1));
    pairs
        .filter(|((_, before), (_, after))| after > before)
        .map(|(_, after)| *after)
        .collect()
}

fn marked(story: &Story) -> Vec<&serin::Verdict> {
    let every = story.checks.len().div_ceil(MARKS).max(1);
    let mut before = None;
    let mut marked = Vec::new();
    for (number, check) in story.checks.iter().enumerate() {
        if number.is_multiple_of(every) || before != Some(check.outcome) {
            marked.push(check);
        }
        before = Some(check.outcome);
    }
    marked
}

/// The mark of an outcome, by shape as by colour: a disc, a cross, an empty square.
fn mark(outcome: Outcome, x: f64, y: f64, colours: &Colours) -> Markup {
    let (x, y) = (px(x), px(y));
    match outcome {
        Outcome::Healthy => {
            html! { circle cx=(x) cy=(y) r="4" fill=(colours.healthy) stroke=(colours.ground) {} }
        }
        Outcome::Unhealthy => html! {
            path d={ "M" (x - 5.0) " " (y - 5.0) "l10 10m0 -10l-10 10" } fill="none" stroke=(colours.unhealthy) stroke-width="3" {}
        },
        Outcome::Inconclusive => html! {
            rect x=(x - 3.5) y=(y - 3.5) width="7" height="7" fill=(colours.ground) stroke=(colours.inconclusive) stroke-width="1.5" {}
        },
    }
}

fn legend(colours: &Colours) -> Markup {
    let entry = |drawn: Markup, text: &str| {
        html! { span { svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true" { (drawn) } (text) } }
    };
    let line = html! { path d="M0 7H14" stroke=(colours.canary) stroke-width="2" {} };
    html! {
        div.legend {
            (entry(line, "share of the new version"))
            @for (outcome, text) in [
                (Outcome::Healthy, "healthy check"), (Outcome::Unhealthy, "unhealthy check"), (Outcome::Inconclusive, "inconclusive check"),
            ] {
                (entry(mark(outcome, 7.0, 7.0, colours), text))
            }
            (PreEscaped("<span>times are UTC</span>"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_goes_up_and_down_in_steps() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let field = Field {
            width: LEFT + RIGHT + 100.0,
            from: 0.0,
            to: 100.0,
        };
        let weights = [(at(0), 0.0), (at(10), 50.0), (at(60), 0.0)];
        let (line, ground) = path(&weights, &field, at(100));
        assert_eq!(line, "M42 184H52V101H102V184H142");
        assert_eq!(ground, format!("{line}V184H42Z"));
        assert_eq!(risen(&weights), [(at(10), 50.0)]);
    }

    #[test]
    fn the_labels_of_the_time_have_room() {
        for length in [30.0, 600.0, 5000.0, 90_000.0, 604_800.0] {
            let field = Field {
                width: 600.0,
                from: 1_795_000_123.0,
                to: 1_795_000_123.0 + length,
            };
            let ticks = field.ticks();
            let places: Vec<_> = ticks.iter().map(|tick| field.x_of(*tick)).collect();
            assert!(
                places.windows(2).all(|two| two[1] - two[0] >= LABEL),
                "{length}: {places:?}"
            );
        }
    }

    #[test]
    fn every_outcome_has_a_shape_of_its_own() {
        let colours = Theme::Light.colours();
        let shape = |outcome| mark(outcome, 0.0, 0.0, &colours).into_string();
        let shapes = [Outcome::Healthy, Outcome::Unhealthy, Outcome::Inconclusive].map(shape);
        for (shape, name) in shapes.iter().zip(["<circle", "<path", "<rect"]) {
            assert!(shape.starts_with(name), "{shape}");
        }
    }
}
