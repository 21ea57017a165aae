//! What a person sees while a deployment runs: one screen that is redrawn in place, or plain lines.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::execute;
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};

use crate::data_plane::VersionStats;
use crate::executions::Progress;
use crate::scenario::Scenario;

/// How many characters the bar of the split is wide.
const BAR: u32 = 50;

/// What there is to see at one moment.
#[derive(Debug)]
pub struct View<'a> {
    /// The scenario that runs.
    pub scenario: Scenario,
    /// How far the execution has come.
    pub progress: &'a Progress,
    /// The live weights, of the route or of the rule.
    pub split: Vec<(String, u32)>,
    /// The versions, with what they got since the deployment began.
    pub versions: Vec<VersionStats>,
    /// How long the deployment runs.
    pub elapsed: Duration,
    /// What else happens.
    pub note: Option<&'static str>,
}

/// Shows views. Leaving it out of scope gives the terminal back as it was.
#[derive(Debug)]
pub enum Screen {
    /// One screen, redrawn in place.
    Terminal,
    /// Plain lines, for a file or a pipe: one for each change.
    Lines(LastLine),
}

/// What the last line said, so that only changes are told.
#[derive(Debug, Default)]
pub struct LastLine {
    states: usize,
    split: Vec<(String, u32)>,
    verdict: Option<String>,
}

impl Screen {
    /// A screen if the output is a terminal, lines if it is not.
    pub fn of_this_output() -> Self {
        if stdout().is_terminal() && execute!(stdout(), EnterAlternateScreen, Hide).is_ok() {
            Self::Terminal
        } else {
            Self::Lines(LastLine::default())
        }
    }

    /// Shows one moment.
    pub fn show(&mut self, view: &View<'_>) {
        let mut out = stdout();
        // A terminal that is gone is no reason to stop a deployment.
        let _ = match self {
            Self::Terminal => {
                // Drawn over the last frame line by line, so that nothing flickers.
                let frame =
                    frame(view).replace('\n', &format!("{}\n", Clear(ClearType::UntilNewLine)));
                write!(
                    out,
                    "{}{frame}{}",
                    MoveTo(0, 0),
                    Clear(ClearType::FromCursorDown)
                )
            }
            Self::Lines(last) => write!(out, "{}", last.changes(view)),
        };
        let _ = out.flush();
    }

    /// Says one thing that is no part of a deployment.
    pub fn say(&mut self, sentence: &str) {
        let mut out = stdout();
        if matches!(self, Self::Terminal) {
            let _ = execute!(out, MoveTo(0, 0), Clear(ClearType::All));
        }
        let _ = writeln!(out, "{sentence}");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if matches!(self, Self::Terminal) {
            let _ = execute!(stdout(), LeaveAlternateScreen, Show);
        }
    }
}

impl LastLine {
    /// The lines that tell what has changed.
    fn changes(&mut self, view: &View<'_>) -> String {
        let mut lines = String::new();
        let elapsed = clock(view.elapsed);
        let states = &view.progress.states;
        if states.len() < self.states {
            *self = Self::default();
        }
        for state in states.iter().skip(self.states) {
            let _ = writeln!(lines, "{elapsed}  {}", state.name);
        }
        self.states = states.len();
        if self.split != view.split {
            let _ = writeln!(
                lines,
                "{elapsed}    traffic: {}",
                shares(&view.split).join(", ")
            );
            self.split.clone_from(&view.split);
        }
        let verdict = view.progress.verdict_sentence().map(ToOwned::to_owned);
        if self.verdict != verdict {
            if let Some(verdict) = &verdict {
                let _ = writeln!(lines, "{elapsed}    verdict: {verdict}");
                for version in &view.versions {
                    let _ = writeln!(lines, "{elapsed}    {}", version_line(version));
                }
            }
            self.verdict = verdict;
        }
        lines
    }
}

/// The whole screen.
fn frame(view: &View<'_>) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    line(&format!(
        "Serin · {} · {}",
        view.scenario.name(),
        clock(view.elapsed)
    ));
    line(&format!("        {}", view.scenario.sentence()));
    line("");
    line(&format!(
        "  {}",
        view.progress.state().unwrap_or("Starting")
    ));
    line("");
    line(&format!("  {}", bar(&view.split)));
    line(&format!("  {}", shares(&view.split).join("   ")));
    line("");
    for version in &view.versions {
        line(&format!("  {}", version_line(version)));
    }
    line("");
    line(&format!(
        "  Last verdict: {}",
        view.progress.verdict_sentence().unwrap_or("none yet")
    ));
    if let Some(note) = view.note {
        line(&format!("  Meanwhile: {note}"));
    }
    text
}

/// The split as a bar: the first target dark, the second light.
fn bar(split: &[(String, u32)]) -> String {
    const SHADES: [char; 3] = ['█', '░', '▒'];
    let whole: u32 = split.iter().map(|(_, weight)| weight).sum();
    let mut bar = String::new();
    for ((_, weight), shade) in split.iter().zip(SHADES) {
        let width = (weight * BAR + whole / 2).checked_div(whole).unwrap_or(0);
        // Whoever gets any traffic is seen.
        let width = if *weight > 0 { width.max(1) } else { 0 };
        bar.extend(std::iter::repeat_n(shade, width as usize));
    }
    bar
}

/// The split in words.
fn shares(split: &[(String, u32)]) -> Vec<String> {
    let whole: u32 = split.iter().map(|(_, weight)| weight).sum();
    split
        .iter()
        .map(|(node, weight)| {
            format!(
                "{node} {} %",
                f64::from(weight * 1000 / whole.max(1)) / 10.0
            )
        })
        .collect()
}

fn version_line(version: &VersionStats) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
    let rate = if version.requests == 0 {
        0.0
    } else {
        version.errors as f64 * 100.0 / version.requests as f64
    };
    format!(
        "{:<32} {:<12} {} tasks  {:>7} requests  {:>5} errors  {rate:>5.1} %",
        version.target,
        version.versions.join(", "),
        version.tasks_running,
        version.requests,
        version.errors,
    )
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::executions::StateEntered;

    fn progress(states: &[&str], verdict: Option<&str>) -> Progress {
        Progress {
            states: states
                .iter()
                .map(|name| StateEntered {
                    name: (*name).to_owned(),
                    at: Timestamp::UNIX_EPOCH,
                })
                .collect(),
            verdict: verdict.map(|sentence| json!({"sentence": sentence})),
        }
    }

    fn view(progress: &Progress) -> View<'_> {
        View {
            scenario: Scenario::Bad,
            progress,
            split: vec![
                ("checkout".to_owned(), 90),
                ("checkout-canary".to_owned(), 10),
            ],
            versions: vec![VersionStats {
                target: "checkout-canary".to_owned(),
                versions: vec!["bad".to_owned()],
                tasks_running: 2,
                requests: 200,
                errors: 20,
            }],
            elapsed: Duration::from_secs(83),
            note: None,
        }
    }

    #[test]
    fn the_screen_shows_state_split_versions_verdict_and_time() {
        let progress = progress(&["Wait before the next check"], Some("too many errors"));
        let frame = frame(&view(&progress));
        for part in [
            "1:23",
            "Wait before the next check",
            "checkout 90 %",
            "checkout-canary 10 %",
            "10.0 %",
            "too many errors",
        ] {
            assert!(frame.contains(part), "{part} is missing in\n{frame}");
        }
        assert_eq!(frame.matches('█').count(), 45);
        assert_eq!(frame.matches('░').count(), 5);
    }

    #[test]
    fn lines_tell_changes_once() {
        let mut last = LastLine::default();
        let early = progress(&["Plan the deployment"], None);
        assert_eq!(last.changes(&view(&early)).lines().count(), 2);
        assert_eq!(last.changes(&view(&early)), "");
        let later = progress(
            &["Plan the deployment", "Create the canary"],
            Some("healthy"),
        );
        let lines = last.changes(&view(&later));
        assert!(
            lines.contains("Create the canary") && lines.contains("verdict: healthy"),
            "{lines}"
        );
    }
}
