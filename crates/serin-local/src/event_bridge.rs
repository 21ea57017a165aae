//! What EventBridge does in an account and moto does not: the template's rule on an execution's end, and its schedule.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::executions::{self, Execution};
use crate::moto::{Moto, MotoError, Service};
use crate::stack::{ACCOUNT, REGION, StateMachines};

/// How often the executions are looked at. EventBridge hears of an end within a second or two.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The ends of an execution that the rule is about. A failed one may be a clean rollback; who recovers finds out.
const DEAD: [&str; 3] = ["ABORTED", "FAILED", "TIMED_OUT"];

/// The rule and the schedule. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct EventBridge(Vec<JoinHandle<()>>);

impl EventBridge {
    /// Watches the deployments and starts the recovery of each that has died, if `rule`; invokes the sweep at `gateway`
    /// every so often.
    pub(crate) fn start(
        moto: &Moto,
        machines: &StateMachines,
        gateway: String,
        rule: bool,
        sweep_every: Duration,
    ) -> Self {
        let mut tasks = vec![tokio::spawn(sweep(gateway, sweep_every))];
        if rule {
            tasks.push(tokio::spawn(watch(moto.clone(), machines.clone())));
        }
        Self(tasks)
    }
}

impl Drop for EventBridge {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
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
