//! The scenarios: a request each, what happens meanwhile, and how it has to end.

use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use serin::verdict::Verdict;

use crate::aws_cli::CommandError;
use crate::checkout::Checkout;
use crate::cloud::LocalCloud;
use crate::data_plane::{LoadStats, LocalRouter, VersionStats};
use crate::evidence;
use crate::executions::{Ending, Execution, LOOK_EVERY, Outcome, Progress};
use crate::gateway::{Effect, Event, Fault, Record};
use crate::moto::MotoError;
use crate::screen::View;
use crate::world;

/// The state whose first entry shows that the plan was accepted.
const CREATE: &str = "Create the canary";

/// The state whose first entry shows that the canary is ready.
const SHIFT: &str = "Shift traffic to the next weight";

/// The state whose first entry shows that the canary has had its first share of the traffic for a while.
const CHECK: &str = "Check the canary's health";

/// The state whose entry shows that the traffic has been shifted.
const SHIFTED: &str = "Wait before the next check";

/// Of how many requests one fails in every version while a worse one is deployed: a fiftieth, to which the worse one adds
/// twice as many.
const ALWAYS_FAILS_ONE_IN: u64 = 50;

/// Of how many requests one fails in every version in the outage, and how long it lasts.
const OUTAGE: (u64, Duration) = (3, Duration::from_secs(40));

/// How soon a recovery has to begin after an execution's end.
const RECOVERY_WITHIN: Duration = Duration::from_secs(30);

/// The operations that change weights.
const WEIGHT_CHANGES: [&str; 3] = ["UpdateRoute", "ModifyRule", "ModifyListener"];

/// A deployment to be watched. Its request is the committed file of its name in `scenarios/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A good version is promoted.
    Good,
    /// A version that answers 5xx to a tenth of its requests is rolled back.
    Bad,
    /// A good version takes the place of the old one instead of going into its service.
    Replace,
    /// A version that does not start is rolled back.
    CrashLoop,
    /// The metrics fall silent, and the deployment is rolled back.
    NoData,
    /// A second deployment of the same service is refused while the first runs.
    Second,
    /// The execution is stopped while the canary has its first share of the traffic, and the recovery puts everything back.
    Stopped,
    /// The functions' processes are killed in the middle of shifts and of the clean-up, and a good version is promoted.
    Killed,
    /// Every third call gets an error, a closed connection or no answer at all, and a good version is promoted or rolled back.
    Faulty,
    /// A bad version is frozen; a person has it checked once more and then rolled back, with the commands that the event gives.
    Frozen,
    /// A version with three times stable's errors, but below every limit, is rolled back.
    Worse,
    /// The same version beside a fresh copy of stable, which goes with it.
    Baseline,
    /// A version that takes longer to answer than stable did before is rolled back, behind the load balancer: of the mesh no times
    /// are measured. Only its request has latency compared: the others' versions answer at once, and what little that takes says
    /// how busy the machine is.
    Slower,
    /// Something that both versions need fails for a while, and a good version is promoted when that is over.
    ///
    /// Its request looks for twice the errors only: after so many that both had, one percentage point more takes minutes.
    Outage,
    /// Nobody calls any more, and a version of which nothing is known is rolled back at the deadline.
    Idle,
}

/// There is no scenario of this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no scenario {name}; there are {}", Scenario::ALL.map(Scenario::name).join(", "))]
pub struct UnknownScenario {
    name: String,
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
            .ok_or_else(|| UnknownScenario {
                name: name.to_owned(),
            })
    }
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 15] = [
        Self::Good,
        Self::Bad,
        Self::Replace,
        Self::CrashLoop,
        Self::NoData,
        Self::Second,
        Self::Stopped,
        Self::Killed,
        Self::Faulty,
        Self::Frozen,
        Self::Worse,
        Self::Baseline,
        Self::Slower,
        Self::Outage,
        Self::Idle,
    ];

    /// The scenario's name, on the command line and as a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Replace => "replace",
            Self::CrashLoop => "crash-loop",
            Self::NoData => "no-data",
            Self::Second => "second",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Faulty => "faulty",
            Self::Frozen => "frozen",
            Self::Worse => "worse",
            Self::Baseline => "baseline",
            Self::Slower => "slower",
            Self::Outage => "outage",
            Self::Idle => "idle",
        }
    }

    /// What is deployed, and what should come of it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Good => "a good version, to be promoted",
            Self::Bad => "a version that answers 5xx to a tenth of its requests, to be rolled back",
            Self::Replace => "a good version, to take the old one's place",
            Self::CrashLoop => "a version that does not start, to be rolled back",
            Self::NoData => "a version whose metrics fall silent, to be rolled back",
            Self::Second => "a good version, and a second deployment meanwhile, to be refused",
            Self::Stopped => {
                "a good version whose execution is stopped, to be put back by the recovery"
            }
            Self::Killed => {
                "a good version whose functions are killed, to be promoted all the same"
            }
            Self::Faulty => {
                "a good version while every third call fails, to be promoted or rolled back"
            }
            Self::Frozen => {
                "a bad version that is frozen, to be resumed and then rolled back by a person"
            }
            Self::Worse => {
                "a version with three times stable's errors but below the limit, to be rolled back"
            }
            Self::Baseline => {
                "a version with three times the errors of a fresh copy of stable, to be rolled back"
            }
            Self::Slower => {
                "a version that takes much longer than stable, to be rolled back (on the load balancer)"
            }
            Self::Outage => {
                "a good version while something that both versions need fails, to be promoted after that"
            }
            Self::Idle => "a version that gets no requests, to be rolled back at the deadline",
        }
    }

    /// How the deployment may end.
    pub const fn expected(self) -> &'static [Ending] {
        match self {
            Self::Good | Self::Replace | Self::Second | Self::Killed | Self::Outage => {
                &[Ending::Promoted]
            }
            Self::Bad
            | Self::CrashLoop
            | Self::NoData
            | Self::Stopped
            | Self::Frozen
            | Self::Worse
            | Self::Baseline
            | Self::Slower
            | Self::Idle => &[Ending::RolledBack],
            Self::Faulty => &[Ending::Promoted, Ending::RolledBack],
        }
    }

    /// Of how many requests one fails in every version from the beginning to the end.
    fn always_fails_one_in(self) -> Option<u64> {
        matches!(self, Self::Worse | Self::Baseline).then_some(ALWAYS_FAILS_ONE_IN)
    }

    /// What goes wrong while the functions work.
    fn faults(self, router: LocalRouter) -> Vec<Fault> {
        let (read, write) = match router {
            LocalRouter::AppMesh => ("DescribeRoute", "UpdateRoute"),
            LocalRouter::Alb => ("DescribeRules", "ModifyRule"),
        };
        let killed = |operation, function| Fault::on(operation).by(function).with(Effect::Kill);
        match self {
            Self::Killed => vec![
                // Between its read of the route and its write; and between its write and the answer.
                killed(read, "shift-weight"),
                killed(write, "shift-weight").nth(2),
                killed("UpdateService", "cleanup"),
            ],
            Self::Faulty => {
                let effects = [Effect::internal_error(), Effect::Close, Effect::Silence];
                vec![Fault::on_any_call().every(3).with_in_turn(effects)]
            }
            _ => Vec::new(),
        }
    }

    /// The request: the execution's input.
    ///
    /// # Errors
    ///
    /// When the scenario's file cannot be read.
    pub fn request(self) -> std::io::Result<Value> {
        let folder = Checkout::of_this_build().scenarios();
        let text = std::fs::read_to_string(folder.join(format!("{}.json", self.name())))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Why a scenario could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The scenario's request could not be read.
    #[error("cannot read the scenario's request")]
    Request(#[from] std::io::Error),
    /// Moto did not answer.
    #[error("the local cloud does not answer")]
    Moto(#[from] MotoError),
    /// The versions could not be told how what they need is doing.
    #[error("cannot say how the versions' dependency is doing")]
    Dependency(#[source] std::io::Error),
    /// What the checks found could not be read from the ledger.
    #[error("cannot read the evidence in the ledger")]
    Evidence(#[source] serde_json::Error),
    /// A command that was printed could not be carried out.
    #[error("a printed command does not work")]
    Command(#[from] CommandError),
}

/// What happened in a scenario.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The scenario.
    pub scenario: Scenario,
    /// The router through which the traffic went.
    pub router: LocalRouter,
    /// The version that was deployed, by its image's tag.
    pub version: String,
    /// What came of the deployment.
    pub outcome: Outcome,
    /// What every check found, oldest first, as the ledger keeps it.
    pub evidence: Vec<Verdict>,
    /// What came of the second deployment, in the scenario that has one.
    pub second: Option<Outcome>,
    /// What came of the recovery of the second deployment.
    pub second_recovery: Option<Outcome>,
    /// What came of the recovery, which every deployment gets whose execution did not succeed.
    pub recovery: Option<Outcome>,
    /// What the caller got from the beginning to the end of the deployment.
    pub load: LoadStats,
    /// What went through the gateway meanwhile.
    pub record: Record,
    /// What the deployment asked while it was frozen.
    pub questions: Vec<Event>,
    /// How the world differs from what it has to be after such an ending; empty when nothing is left.
    pub trace_left: Vec<String>,
    /// How long it took from the first datapoint with a 5xx answer of the canary until stable had all the traffic.
    pub seconds_to_stable: Option<f64>,
    /// How long it took from the execution's end until a recovery gave stable all the traffic.
    pub seconds_from_end_to_stable: Option<f64>,
}

impl Happened {
    /// How the deployment ended, by itself or by its recovery.
    pub fn ending(&self) -> Ending {
        match self
            .recovery
            .as_ref()
            .filter(|recovery| recovery.has_recovered())
        {
            Some(recovery) => recovery.recovered_to(),
            None => self.outcome.ending(),
        }
    }

    /// The execution that brought the deployment to its end: its own or its recovery's.
    pub fn last(&self) -> &Outcome {
        let recovery = self.recovery.as_ref();
        recovery
            .filter(|recovery| recovery.has_recovered())
            .unwrap_or(&self.outcome)
    }
}

/// Runs a scenario to its end and shows it meanwhile.
///
/// # Errors
///
/// A [`ScenarioError`] when the request cannot be read or the cloud does not answer.
pub async fn run(
    cloud: &LocalCloud,
    scenario: Scenario,
    mut show: impl FnMut(&View<'_>),
) -> Result<Happened, ScenarioError> {
    let request = scenario.request()?;
    if scenario == Scenario::Replace {
        // A service that scales by itself is not replaced: its scaling would go with it.
        cloud.remove_scaling().await?;
    }
    let before = Before {
        world: cloud.world_snapshot().await?,
        load: cloud.load(),
        mark: cloud.calls().mark(),
        versions: cloud.versions(),
    };
    for fault in scenario.faults(cloud.router()) {
        cloud.inject(fault);
    }
    fail_dependency(cloud, scenario.always_fails_one_in())?;
    let began = Instant::now();
    let execution = cloud.deploy(&request).await?;
    let mut meanwhile = Meanwhile::of(scenario);
    let outcome = loop {
        let look = cloud.look(&execution).await?;
        meanwhile
            .act(cloud, &request, &execution, &look.progress)
            .await?;
        show(&View {
            scenario,
            progress: &look.progress,
            split: cloud.split().await?,
            versions: since(cloud.versions(), &before.versions),
            elapsed: began.elapsed(),
            note: meanwhile.note(),
        });
        if let Some(outcome) = look.outcome {
            break outcome;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let second = meanwhile.end(cloud).await?;
    let recovery = recovery_of(cloud, Some(&outcome)).await?;
    let second_recovery = recovery_of(cloud, second.as_ref()).await?;
    cloud.mend();
    fail_dependency(cloud, None)?;
    let mut happened = Happened {
        scenario,
        router: cloud.router(),
        version: version_of(&request),
        evidence: evidence::of_execution(&cloud.ledger().await?, &execution.arn)
            .map_err(ScenarioError::Evidence)?,
        outcome,
        second,
        recovery,
        second_recovery,
        load: LoadStats::default(),
        record: Record::default(),
        questions: questions(cloud, &execution),
        trace_left: Vec::new(),
        seconds_to_stable: None,
        seconds_from_end_to_stable: None,
    };
    measure(cloud, &before, &mut happened).await?;
    Ok(happened)
}

fn fail_dependency(cloud: &LocalCloud, one_in: Option<u64>) -> Result<(), ScenarioError> {
    cloud
        .fail_dependency(one_in)
        .map_err(ScenarioError::Dependency)
}

/// The version that a request deploys: its image's tag.
fn version_of(request: &Value) -> String {
    let image = request["image"].as_str().unwrap_or_default();
    let (_, tag) = image.rsplit_once(':').unwrap_or_default();
    tag.to_owned()
}

/// What came of the recovery of a deployment whose execution did not succeed.
async fn recovery_of(
    cloud: &LocalCloud,
    outcome: Option<&Outcome>,
) -> Result<Option<Outcome>, MotoError> {
    match outcome.filter(|outcome| outcome.status != "SUCCEEDED") {
        Some(outcome) => cloud.recovery_of(&outcome.execution, RECOVERY_WITHIN).await,
        None => Ok(None),
    }
}

/// What there was before the deployment.
struct Before {
    world: crate::world::WorldSnapshot,
    load: LoadStats,
    mark: crate::gateway::Mark,
    versions: Vec<VersionStats>,
}

/// Fills in what the load, the world and the record say.
async fn measure(
    cloud: &LocalCloud,
    before: &Before,
    happened: &mut Happened,
) -> Result<(), ScenarioError> {
    let after = cloud.world_snapshot().await?;
    happened.trace_left = match (happened.scenario, happened.ending()) {
        (Scenario::Replace, Ending::Promoted) => before.world.differences_after_replacement(&after),
        (_, Ending::Promoted) => before.world.differences_after_promotion(&after),
        _ => before.world.differences(&after),
    };
    let record = cloud.calls().since(&before.mark);
    let bad = cloud
        .first_bad_datapoint("checkout-canary", happened.outcome.started)
        .await?;
    // Where several rules are changed, the first change of the last of them gave stable all the traffic.
    let stable = WEIGHT_CHANGES
        .iter()
        .filter_map(|operation| {
            let mut calls = record.calls.iter();
            calls
                .find(|call| {
                    call.function.as_deref() == Some("rollback")
                        && call.operation == *operation
                        && call.succeeded()
                })
                .map(|call| call.at)
        })
        .max();
    let from = |moment: Timestamp| stable.map(|stable| seconds_between(moment, stable));
    happened.seconds_to_stable = bad.and_then(from);
    if happened.ending() != happened.outcome.ending() {
        happened.seconds_from_end_to_stable = from(happened.outcome.ended);
    }
    happened.record = record;
    happened.load = cloud.load_so_far().await.since(&before.load);
    Ok(())
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// What else happens while a deployment runs.
#[derive(Debug)]
enum Meanwhile {
    Nothing,
    /// The metrics fall silent as soon as the canary is ready.
    Silence {
        silent: bool,
    },
    /// A second deployment is started as soon as the first has been planned.
    Second(Option<Execution>),
    /// The execution is stopped when the canary has its first share.
    Stop {
        stopped: bool,
    },
    /// What a frozen deployment asks is answered.
    Answer {
        answered: usize,
    },
    /// What every version needs fails for a while, from when the canary has its first share.
    Outage(Outage),
    /// Nobody calls from when the canary is made until all is over.
    Idle {
        idle: bool,
    },
}

/// How far an outage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    Ahead,
    Since(Instant),
    Over,
}

/// What the person answers, one time after the other.
const ANSWERS: [&str; 2] = ["resume", "rollBack"];

impl Meanwhile {
    const fn of(scenario: Scenario) -> Self {
        match scenario {
            Scenario::NoData => Self::Silence { silent: false },
            Scenario::Second => Self::Second(None),
            Scenario::Stopped => Self::Stop { stopped: false },
            Scenario::Good
            | Scenario::Bad
            | Scenario::Replace
            | Scenario::CrashLoop
            | Scenario::Killed
            | Scenario::Faulty
            | Scenario::Worse
            | Scenario::Baseline
            | Scenario::Slower => Self::Nothing,
            Scenario::Frozen => Self::Answer { answered: 0 },
            Scenario::Outage => Self::Outage(Outage::Ahead),
            Scenario::Idle => Self::Idle { idle: false },
        }
    }

    async fn act(
        &mut self,
        cloud: &LocalCloud,
        request: &Value,
        execution: &Execution,
        progress: &Progress,
    ) -> Result<(), ScenarioError> {
        match self {
            Self::Silence { silent } if !*silent && progress.has_entered(SHIFT) => {
                cloud.pause_metrics(true);
                *silent = true;
            }
            Self::Second(second @ None) if progress.has_entered(CREATE) => {
                // Of another version: the same one would be refused as the first's.
                let mut other = request.clone();
                other["image"] = world::image("good-2").into();
                *second = Some(cloud.deploy(&other).await?);
            }
            Self::Stop { stopped } if !*stopped && progress.has_entered(CHECK) => {
                cloud.stop_execution(execution).await?;
                *stopped = true;
            }
            Self::Answer { answered } => {
                let questions = questions(cloud, execution);
                if let (Some(question), Some(answer)) =
                    (questions.get(*answered), ANSWERS.get(*answered))
                {
                    let command = question.detail["commands"][answer].as_str();
                    cloud.carry_out(command.unwrap_or_default()).await?;
                    *answered += 1;
                }
            }
            Self::Outage(outage) => outage.go_on(cloud, progress)?,
            Self::Idle { idle } if !*idle && progress.has_entered(CREATE) => {
                cloud.pause_load(true);
                *idle = true;
            }
            Self::Nothing
            | Self::Silence { .. }
            | Self::Second(_)
            | Self::Stop { .. }
            | Self::Idle { .. } => {}
        }
        Ok(())
    }

    const fn note(&self) -> Option<&'static str> {
        match self {
            Self::Silence { silent: true } => Some("the metrics agent is silent"),
            Self::Second(Some(_)) => Some("a second deployment has been started"),
            Self::Stop { stopped: true } => Some("the execution has been stopped"),
            Self::Answer { answered: 1 } => Some("a person has had it resumed"),
            Self::Answer { answered: 2 } => Some("a person has had it rolled back"),
            Self::Outage(Outage::Since(_)) => Some("what every version needs fails"),
            Self::Outage(Outage::Over) => Some("what every version needs works again"),
            Self::Idle { idle: true } => Some("nobody calls"),
            _ => None,
        }
    }

    async fn end(self, cloud: &LocalCloud) -> Result<Option<Outcome>, MotoError> {
        match self {
            Self::Silence { .. } => {
                cloud.pause_metrics(false);
                Ok(None)
            }
            Self::Second(Some(second)) => Ok(Some(cloud.follow(&second, |_| ()).await?)),
            Self::Idle { .. } => {
                cloud.pause_load(false);
                Ok(None)
            }
            Self::Nothing
            | Self::Second(None)
            | Self::Stop { .. }
            | Self::Answer { .. }
            | Self::Outage(_) => Ok(None),
        }
    }
}

impl Outage {
    /// Begins or ends it when its time has come.
    fn go_on(&mut self, cloud: &LocalCloud, progress: &Progress) -> Result<(), ScenarioError> {
        let (one_in, lasts) = OUTAGE;
        match self {
            Self::Ahead if progress.has_entered(SHIFTED) => {
                fail_dependency(cloud, Some(one_in))?;
                *self = Self::Since(Instant::now());
            }
            Self::Since(began) if began.elapsed() >= lasts => {
                fail_dependency(cloud, None)?;
                *self = Self::Over;
            }
            Self::Ahead | Self::Since(_) | Self::Over => {}
        }
        Ok(())
    }
}

/// What a frozen deployment has asked so far.
fn questions(cloud: &LocalCloud, execution: &Execution) -> Vec<Event> {
    let mut events = cloud.events();
    events.retain(|event| {
        event.detail["phase"] == "frozen" && event.detail["execution"] == execution.arn.as_str()
    });
    events
}

/// What the versions got since an earlier look.
fn since(now: Vec<VersionStats>, before: &[VersionStats]) -> Vec<VersionStats> {
    let mut now = now;
    for version in &mut now {
        let earlier = before
            .iter()
            .find(|earlier| earlier.target == version.target);
        if let Some(earlier) = earlier {
            version.requests = version.requests.saturating_sub(earlier.requests);
            version.errors = version.errors.saturating_sub(earlier.errors);
        }
    }
    // What an earlier deployment left in the counters is not looked at.
    now.retain(|version| version.tasks_running > 0 || version.requests > 0);
    now
}

#[cfg(test)]
mod tests {
    use super::{Scenario, version_of};

    #[test]
    fn every_scenario_has_a_request_and_is_found_by_its_name() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse::<Scenario>().unwrap(), scenario);
            let request = scenario.request().unwrap();
            assert_eq!(request["service"], "checkout");
            assert!(!version_of(&request).is_empty(), "{request}");
        }
        let error = "none".parse::<Scenario>().unwrap_err().to_string();
        assert!(error.contains("crash-loop"), "{error}");
    }
}
