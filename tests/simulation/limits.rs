//! The largest deployment that a request may ask for, within the limits of Step Functions: the interpreter ends an execution
//! whose state has more than 256 KiB, whose cause has more than 32 KiB or whose history has 25,000 events, as AWS does.

use serde_json::{Value, json};
use serin_sim::AlarmStateValue;
use serin_sim::state_machine::Execution;

use super::{On, Simulation, request};

/// As many as a request may have.
const ALARMS: usize = 100;
const QUERIES: usize = 20;
const STEPS: usize = 100;

/// As long as a name may be.
fn alarm(number: usize) -> String {
    format!("checkout-{number:03}-{}", "x".repeat(242))
}

/// A query for the canary's requests.
fn query(number: usize) -> Value {
    let dimension = |name: &str, value: &str| json!({ "Name": name, "Value": value });
    let dimensions = [
        dimension("ClusterName", "{{clusterName}}"),
        dimension("TaskDefinitionFamily", "{{canaryFamily}}"),
        dimension("envoy_http_conn_manager_prefix", "ingress"),
        dimension("envoy_response_code_class", "2"),
    ];
    let metric = json!({
        "Namespace": "ECS/ContainerInsights/Prometheus",
        "MetricName": "envoy_http_downstream_rq_xx",
        "Dimensions": dimensions,
    });
    let stat = json!({ "Metric": metric, "Period": 60, "Stat": "Sum" });
    json!({
        "name": format!("query number {number}, with a name that says in a few words what it is for"),
        "metricDataQueries": [{ "Id": "requests", "MetricStat": stat }],
        "min": 0,
    })
}

fn largest() -> Value {
    let steps: Vec<_> = (1..=STEPS)
        .map(|percent| json!({ "weightPercent": percent, "holdSeconds": 60 }))
        .collect();
    let alarms: Vec<_> = (0..ALARMS).map(alarm).collect();
    let queries: Vec<_> = (0..QUERIES).map(query).collect();
    let checks = json!({
        "errorRatePercent": { "max": 1.0 }, "minRequests": 1, "intervalSeconds": 60, "settleSeconds": 0,
        "alarms": alarms, "queries": queries,
    });
    request(
        "2.0.0",
        json!({ "plan": { "steps": steps }, "checks": checks, "deadlineSeconds": 86_400 }),
    )
}

fn set_alarms(simulation: &Simulation, state: &AlarmStateValue) {
    for number in 0..ALARMS {
        // As long as a reason may be.
        let reason = "the last datapoint was above it. ".repeat(31);
        simulation
            .account
            .set_alarm(&alarm(number), state.clone(), &reason);
    }
}

fn world() -> Simulation {
    let simulation = Simulation::new(On::AppMesh);
    simulation
        .account
        .settings(|settings| settings.page_size = 100); // fewer calls, so that the test is quick
    set_alarms(&simulation, &AlarmStateValue::Ok);
    simulation
}

/// How many steps were begun.
fn steps(execution: &Execution) -> usize {
    execution.data()["progress"]["step"]
        .as_u64()
        .map_or(0, |step| usize::try_from(step).unwrap() + 1)
}

#[tokio::test]
async fn the_largest_plan_is_promoted() {
    let simulation = world();
    let deployed = simulation.deploy(largest()).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    assert_eq!(deployed.report().verdicts.len(), STEPS);
}

#[tokio::test]
async fn the_largest_plan_is_rolled_back_at_its_last_step() {
    let simulation = world();
    let mut execution = simulation.start("first", largest());
    while steps(&execution) < STEPS {
        simulation.step(&mut execution).await;
        assert!(execution.is_running(), "{:?}", execution.status);
    }
    set_alarms(&simulation, &AlarmStateValue::Alarm);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back(&alarm(0))
        .assert_no_request_was_lost();
    assert!(
        deployed.report().verdict.is_some(),
        "the verdict that led here"
    );
}
