//! The demo: a good version and a bad one, deployed under load in a local cloud of their own.

use std::path::Path;

use crate::cloud::{CloudError, CloudOptions, LocalCloud};
use crate::data_plane::LocalRouter;
use crate::report::{Report, ScenarioReport};
use crate::scenario::{self, Scenario, ScenarioError};
use crate::screen::Screen;

/// Why the demo did not show what it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The local cloud did not start.
    #[error("the local cloud does not start")]
    Cloud(#[from] CloudError),
    /// A scenario could not be run to its end.
    #[error("the scenario {name} broke off")]
    Scenario {
        /// The scenario.
        name: &'static str,
        /// What went wrong.
        #[source]
        source: ScenarioError,
    },
    /// The report could not be written.
    #[error("cannot write {path}")]
    Report {
        /// The file.
        path: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// A person stopped it.
    #[error("stopped")]
    Stopped,
    /// Everything ran, but something was not as it has to be.
    #[error("not as it has to be: {0}")]
    Unexpected(String),
}

/// Runs scenarios one after the other in one cloud and reports what came of them.
///
/// The cloud is stopped whatever happens, also when `ended` comes about first, as on Ctrl-C.
///
/// # Errors
///
/// A [`DemoError`] when something did not run, or did not end as it has to.
pub async fn run(
    scenarios: &[Scenario],
    router: LocalRouter,
    json: Option<&Path>,
    ended: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    tokio::pin!(ended);
    let mut screen = Screen::of_this_output();
    screen.say("Starting a local cloud: moto, the functions, a service behind Envoy, and its load (less than a minute)");
    let cloud = tokio::select! {
        started = LocalCloud::start(CloudOptions { router, ..CloudOptions::default() }) => started?,
        () = &mut ended => return Err(DemoError::Stopped),
    };
    let logs = cloud.logs().to_owned();
    let result = tokio::select! {
        result = run_in(&cloud, scenarios, &mut screen) => result,
        () = &mut ended => Err(DemoError::Stopped),
    };
    cloud.stop().await;
    // Gives the terminal back before anything is printed that should stay.
    drop(screen);
    let report = result?;
    print(&report);
    if let Some(path) = json {
        let written = serde_json::to_string_pretty(&report)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(path, text + "\n"));
        written.map_err(|source| DemoError::Report {
            path: path.display().to_string(),
            source,
        })?;
    }
    let unexpected: Vec<&str> = report
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.unexpected.iter().map(String::as_str))
        .collect();
    if unexpected.is_empty() {
        // Nobody asks for the logs of what went well.
        let _ = std::fs::remove_dir_all(logs);
        return Ok(());
    }
    Err(DemoError::Unexpected(format!(
        "{}; the logs are in {}",
        unexpected.join("; "),
        logs.display()
    )))
}

async fn run_in(
    cloud: &LocalCloud,
    scenarios: &[Scenario],
    screen: &mut Screen,
) -> Result<Report, DemoError> {
    let mut report = Report {
        scenarios: Vec::new(),
    };
    for &scenario in scenarios {
        screen.say(&format!("\n{}: {}", scenario.name(), scenario.sentence()));
        let happened = scenario::run(cloud, scenario, |view| screen.show(view))
            .await
            .map_err(|source| DemoError::Scenario {
                name: scenario.name(),
                source,
            })?;
        report.scenarios.push(ScenarioReport::of(&happened));
    }
    Ok(report)
}

#[expect(clippy::print_stdout, reason = "the summary is what the demo is for")]
fn print(report: &Report) {
    for scenario in &report.scenarios {
        println!("\n{}\n{}", scenario.name, scenario.summary());
    }
}
