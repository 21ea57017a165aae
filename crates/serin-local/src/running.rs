//! A local cloud that stays up, for a person, and deployments in it from another terminal.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin::verdict::{Verdict, table};

use crate::checkout::Checkout;
use crate::cloud::{CloudError, CloudOptions, LocalCloud};
use crate::data_plane::LocalRouter;
use crate::evidence;
use crate::executions::{self, Ending};
use crate::gateway::STATUS_PAGE;
use crate::history;
use crate::moto::{Moto, MotoError};
use crate::stack::{self, REGION};

/// Why a running cloud could not be had or used.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// The local cloud did not start.
    #[error("the local cloud does not start")]
    Cloud(#[from] CloudError),
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// No cloud is up.
    #[error("no local cloud is up; `cargo xtask local` starts one")]
    NoneIsUp,
    /// The cloud did not answer.
    #[error("the local cloud does not answer")]
    Moto(#[from] MotoError),
    /// No HTTP client could be made.
    #[error("cannot make an HTTP client")]
    HttpClient(#[source] reqwest::Error),
    /// What the ledger has kept could not be read.
    #[error("cannot read what the ledger has kept")]
    UnreadableEvidence(#[source] serde_json::Error),
    /// The deployment was not promoted.
    #[error("not promoted: {0}")]
    NotPromoted(String),
}

/// Where a running cloud is, for whoever comes later.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunningCloud {
    endpoint: String,
    state_machine: String,
}

/// The file that says where the cloud is, as long as the cloud is there.
struct Announcement(PathBuf);

impl Announcement {
    fn write(path: PathBuf, cloud: &RunningCloud) -> Result<Self, RunningError> {
        let text = serde_json::to_string_pretty(cloud).expect("two texts are valid JSON");
        match std::fs::write(&path, text + "\n") {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(RunningError::File { path, source }),
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Keeps a local cloud up until `ended` comes about.
///
/// # Errors
///
/// A [`RunningError`] when it does not start.
pub async fn keep_up(
    router: LocalRouter,
    ended: impl Future<Output = ()>,
) -> Result<(), RunningError> {
    tokio::pin!(ended);
    say(
        "Starting a local cloud: moto, the functions, a service behind Envoy, and its load (less than a minute)",
    );
    let cloud = tokio::select! {
        started = LocalCloud::start(CloudOptions { router, ..CloudOptions::default() }) => started?,
        () = &mut ended => return Ok(()),
    };
    let checkout = Checkout::of_this_build();
    let running = RunningCloud {
        endpoint: cloud.endpoint(),
        state_machine: cloud.state_machine().to_owned(),
    };
    let announced = Announcement::write(checkout.running_cloud(), &running);
    if announced.is_ok() {
        say(&instructions(&checkout, &cloud));
        ended.await;
        say("Stopping");
    }
    cloud.stop().await;
    announced.map(drop)
}

fn instructions(checkout: &Checkout, cloud: &LocalCloud) -> String {
    let (endpoint, machine) = (cloud.endpoint(), cloud.state_machine());
    let python = checkout.program("python");
    format!(
        r#"
A local cloud is up until Ctrl-C.

  AWS endpoint    {endpoint}
  state machine   {machine}
  the service     {entry}
  status page     {endpoint}{STATUS_PAGE}   (?theme=dark for the dark one)
  logs            {logs}

Deploy from another terminal, in any of these ways:

  cargo xtask local deploy crates/serin-local/scenarios/good.json

  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={REGION} AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
  aws stepfunctions start-execution --state-machine-arn {machine} \
    --input file://crates/serin-local/scenarios/good.json

  {python} -c 'import boto3; print(boto3.client("stepfunctions").start_execution(
    stateMachineArn="{machine}", input=open("crates/serin-local/scenarios/good.json").read()))'
"#,
        entry = cloud.entry_url(),
        logs = cloud.logs().display(),
        python = python.display(),
    )
}

/// Starts a deployment with the request in a file, in the cloud that is up, and follows it with plain lines.
///
/// # Errors
///
/// A [`RunningError`] when no cloud is up, the file cannot be read, or the deployment is not promoted.
pub async fn deploy(file: &Path) -> Result<(), RunningError> {
    let unusable = |source| RunningError::File {
        path: file.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(file).map_err(unusable)?;
    let request: Value = serde_json::from_str(&text).map_err(|error| unusable(error.into()))?;
    let (running, gateway) = find().await?;
    let execution = executions::start(&gateway, &running.state_machine, &request).await?;
    say(&execution.arn);
    let (mut told, mut verdict) = (0, None);
    let outcome = executions::follow(&gateway, &execution, |progress| {
        for state in progress.states.iter().skip(told) {
            say(&format!(
                "{}  {}",
                state.at.strftime("%H:%M:%S"),
                state.name
            ));
        }
        told = progress.states.len();
        let sentence = progress.verdict_sentence().map(ToOwned::to_owned);
        if sentence != verdict {
            say(&format!(
                "            {}",
                sentence.as_deref().unwrap_or_default()
            ));
            verdict = sentence;
        }
    })
    .await?;
    let checks = checks_of(&gateway, &execution.arn).await?;
    if !checks.is_empty() {
        say(&table(&checks));
    }
    let why = outcome.why();
    if outcome.ending() == Ending::Promoted {
        say(&why);
        return Ok(());
    }
    Err(RunningError::NotPromoted(match &outcome.error {
        Some(error) => format!("{error}: {why}"),
        None => why,
    }))
}

/// Prints what the checks of a deployment found, in the cloud that is up.
///
/// # Errors
///
/// A [`RunningError`] when no cloud is up, or its ledger cannot be read.
pub async fn evidence(execution: &str) -> Result<(), RunningError> {
    let (_, gateway) = find().await?;
    say(&table(&checks_of(&gateway, execution).await?));
    Ok(())
}

/// Prints the deployments of a service, or all, with what happened in each, in the cloud that is up.
///
/// # Errors
///
/// A [`RunningError`] when no cloud is up, or its ledger cannot be read.
pub async fn history(service: Option<&str>) -> Result<(), RunningError> {
    let (_, gateway) = find().await?;
    let ledger = stack::ledger(&gateway).await?;
    say(&history::told(&ledger, service).map_err(RunningError::UnreadableEvidence)?);
    Ok(())
}

/// What the checks of a deployment found, oldest first.
async fn checks_of(gateway: &Moto, execution: &str) -> Result<Vec<Verdict>, RunningError> {
    let ledger = stack::ledger(gateway).await?;
    evidence::of_execution(&ledger, execution).map_err(RunningError::UnreadableEvidence)
}

/// The cloud that is up, and its APIs.
async fn find() -> Result<(RunningCloud, Moto), RunningError> {
    let announcement = std::fs::read_to_string(Checkout::of_this_build().running_cloud());
    let running: RunningCloud = announcement
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .ok_or(RunningError::NoneIsUp)?;
    let gateway = Moto::new(&running.endpoint, REGION).map_err(RunningError::HttpClient)?;
    if gateway.is_up().await {
        Ok((running, gateway))
    } else {
        Err(RunningError::NoneIsUp)
    }
}

#[expect(clippy::print_stdout, reason = "it talks to a person")]
fn say(text: &str) {
    println!("{text}");
}
