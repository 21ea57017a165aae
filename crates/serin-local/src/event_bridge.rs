//! What EventBridge does in an account and moto does not: the template's rules on an execution's end and on
//! notices, and its schedule.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::executions::{self, Execution};
use crate::gateway::{Event, Events};
use crate::moto::{Moto, MotoError, Service};
use crate::stack::{ACCOUNT, REGION, StateMachines};

/// How often the executions are looked at. EventBridge hears of an end within a second or two.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The ends of an execution that the rule is about. A failed one may be a clean rollback; who recovers finds out.
const DEAD: [&str; 3] = ["ABORTED", "FAILED", "TIMED_OUT"];

/// How often Lambda tries an asynchronous invocation, and its pauses, which are minutes there.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The rules and the schedule. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct EventBridge {
    tasks: Vec<JoinHandle<()>>,
    told: Arc<AtomicUsize>,
}

impl EventBridge {
    /// Watches the deployments and starts the recovery of each that has died, if `rule`; invokes the sweep at `gateway`
    /// every so often; and gives what is on `bus` to the function that tells it.
    pub(crate) fn start(
        moto: &Moto,
        machines: &StateMachines,
        gateway: String,
        rule: bool,
        sweep_every: Duration,
        bus: Option<Arc<Events>>,
    ) -> Self {
        let told = Arc::default();
        let mut tasks = vec![tokio::spawn(sweep(gateway.clone(), sweep_every))];
        if let Some(bus) = bus {
            tasks.push(tokio::spawn(tell(gateway, bus, Arc::clone(&told))));
        }
        if rule {
            tasks.push(tokio::spawn(watch(moto.clone(), machines.clone())));
        }
        Self { tasks, told }
    }

    /// How many events of the bus have been dealt with.
    pub(crate) fn told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for EventBridge {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The rule on notices, and what Lambda does with an invocation whose answer nobody waits for.
async fn tell(gateway: String, bus: Arc<Events>, told: Arc<AtomicUsize>) {
    let Ok(http) = reqwest::Client::builder().no_proxy().build() else {
        return;
    };
    let url = format!("{gateway}/2015-03-31/functions/notify/invocations");
    loop {
        for event in bus.heard().iter().skip(told.load(Ordering::Relaxed)) {
            if (event.source.as_str(), event.detail_type.as_str()) == ("serin", "Deployment Notice")
            {
                let body = notice_event(event).to_string();
                for _ in 0..TRIES {
                    let answer = http.post(&url).body(body.clone()).send().await;
                    if answer
                        .is_ok_and(|answer| !answer.headers().contains_key("x-amz-function-error"))
                    {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            told.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// An event as EventBridge gives it to a target.
fn notice_event(event: &Event) -> Value {
    json!({
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": event.detail_type,
        "source": event.source,
        "account": ACCOUNT,
        "time": event.at,
        "region": REGION,
        "resources": [event.detail["execution"]],
        "detail": event.detail,
    })
}

/// The rule, with its input transformer.
async fn watch(moto: Moto, machines: StateMachines) {
    let mut told = BTreeSet::new();
    loop {
        // What is not answered is asked again, as EventBridge delivers an event again.
        if let Ok(ended) = dead(&moto, &machines.deployment).await {
            for execution in ended {
                if !told.contains(&execution) {
                    let input = json!({"recover": execution});
                    if executions::start(&moto, &machines.recovery, &input)
                        .await
                        .is_ok()
                    {
                        told.insert(execution);
                    }
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The executions that have ended without success.
async fn dead(moto: &Moto, state_machine: &str) -> Result<Vec<String>, MotoError> {
    let executions = list(moto, state_machine).await?;
    let dead = executions.iter().filter(|execution| {
        execution["status"]
            .as_str()
            .is_some_and(|status| DEAD.contains(&status))
    });
    Ok(dead
        .filter_map(|execution| execution["executionArn"].as_str().map(ToOwned::to_owned))
        .collect())
}

/// The newest recovery of a deployment, whoever started it.
pub(crate) async fn recovery_of(
    moto: &Moto,
    recovery: &str,
    deployment: &Execution,
) -> Result<Option<Execution>, MotoError> {
    let mut found = Vec::new();
    for execution in list(moto, recovery).await? {
        let request = json!({"executionArn": execution["executionArn"]});
        let described = moto
            .call(Service::StepFunctions, "DescribeExecution", &request)
            .await?;
        let input = described["input"].as_str().unwrap_or_default();
        let input: Value = serde_json::from_str(input).unwrap_or_default();
        if input["recover"] == deployment.arn.as_str() {
            let arn = execution["executionArn"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            found.push((
                executions::moment(&described["startDate"]),
                Execution { arn },
            ));
        }
    }
    Ok(found
        .into_iter()
        .max_by_key(|(started, _)| *started)
        .map(|(_, execution)| execution))
}

async fn list(moto: &Moto, state_machine: &str) -> Result<Vec<Value>, MotoError> {
    let request = json!({"stateMachineArn": state_machine, "maxResults": 1000});
    let mut answer = moto
        .call(Service::StepFunctions, "ListExecutions", &request)
        .await?;
    Ok(match answer["executions"].take() {
        Value::Array(executions) => executions,
        _ => Vec::new(),
    })
}

/// The schedule.
async fn sweep(gateway: String, every: Duration) {
    let Ok(http) = reqwest::Client::builder().no_proxy().build() else {
        return;
    };
    let url = format!("{gateway}/2015-03-31/functions/sweep/invocations");
    loop {
        tokio::time::sleep(every).await;
        // Nobody waits for the answer on AWS either; the function's log has it, and the record of the gateway.
        let _ = http.post(&url).body(tick().to_string()).send().await;
    }
}

/// The event of a schedule, as EventBridge sends it.
fn tick() -> Value {
    json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
        "region": REGION,
        "resources": [format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/serin-sweep")],
        "detail": {},
    })
}
