//! What the gateway is told while the fleet works, with the fleet and moto played by hand.

use serde_json::json;

use super::*;

/// Moto, as far as one service goes, and the fleet agent.
struct World {
    runtime: EcsRuntime,
    definitions: HashMap<String, TaskDefinition>,
    moto: Value,
}

impl World {
    fn new() -> Self {
        Self {
            runtime: EcsRuntime::new("eu-west-1", "123456789012"),
            definitions: (1..=3)
                .map(|revision| (arn(revision), definition(revision)))
                .collect(),
            moto: json!({
                "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/demo",
                "serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/demo/web",
                "serviceName": "web",
                "status": "ACTIVE",
                "desiredCount": 2,
                "runningCount": 0,
                "pendingCount": 2,
                "launchType": "FARGATE",
                "networkConfiguration": {},
                "taskDefinition": arn(1),
                "deployments": [{"id": "ecs-svc/1", "status": "PRIMARY", "launchType": "FARGATE"}],
                "serviceRegistries": [{"registryArn": "arn:aws:servicediscovery:eu-west-1:1:service/srv-1"}],
            }),
        }
    }

    /// Changes what moto keeps, as a call through the gateway does.
    fn call(&mut self, operation: &str, request: &Value, changes: &Value) -> Value {
        for (name, value) in changes.as_object().unwrap() {
            self.moto[name] = value.clone();
        }
        let mut answer = json!({"service": self.moto});
        self.runtime.overlay(operation, request, &mut answer);
        answer["service"].clone()
    }

    fn describe(&self) -> Value {
        let mut answer = json!({"services": [self.moto], "failures": []});
        self.runtime
            .overlay("DescribeServices", &json!({}), &mut answer);
        answer["services"][0].clone()
    }

    /// Lets the fleet agent start what it is told to; returns the tasks started and the tasks to be stopped.
    fn fleet(&self) -> (Vec<String>, Vec<String>) {
        let mut started = Vec::new();
        let mut stopped = Vec::new();
        for order in self.runtime.orders(&self.definitions) {
            match order {
                Order::Start { task, .. } => started.push(task),
                Order::Stop { task } => stopped.push(task),
                Order::Read { definition } => panic!("{definition} is known"),
            }
        }
        (started, stopped)
    }

    fn run_all(&self) -> Vec<String> {
        let (started, _) = self.fleet();
        for task in &started {
            self.runtime.task_running(task);
        }
        started
    }

    fn end(&self, task: &str, code: StopCode) {
        self.runtime
            .task_stopped(task, code, "because", BTreeMap::new());
    }
}

fn arn(revision: u32) -> String {
    format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:{revision}")
}

fn definition(revision: u32) -> TaskDefinition {
    TaskDefinition::from_json(&json!({
        "taskDefinitionArn": arn(revision),
        "family": "web",
        "containerDefinitions": [{"name": "app", "image": "sample:good-1"}],
    }))
    .unwrap()
}

fn created() -> World {
    let mut world = World::new();
    world.call(
        "CreateService",
        &json!({"enableExecuteCommand": true}),
        &json!({}),
    );
    world
}

#[test]
fn a_new_service_goes_from_nothing_over_pending_to_completed() {
    let world = created();
    let service = world.describe();
    assert_eq!(service["runningCount"], 0);
    assert_eq!(service["pendingCount"], 0);
    assert_eq!(service["deployments"][0]["rolloutState"], "IN_PROGRESS");

    let (started, _) = world.fleet();
    assert_eq!(started.len(), 2);
    assert_eq!(world.describe()["pendingCount"], 2);

    world.runtime.task_running(&started[0]);
    assert_eq!(
        world.describe()["deployments"][0]["rolloutState"],
        "IN_PROGRESS"
    );
    world.runtime.task_running(&started[1]);
    let service = world.describe();
    assert_eq!(service["runningCount"], 2);
    assert_eq!(service["deployments"][0]["rolloutState"], "COMPLETED");
    assert_eq!(service["deployments"][0]["id"], "ecs-svc/1");
}

#[test]
fn what_moto_drops_is_remembered() {
    let mut world = created();
    let service = world.describe();
    assert_eq!(service["enableExecuteCommand"], true);
    assert_eq!(service["deploymentConfiguration"]["maximumPercent"], 200);
    assert!(service.get("networkConfiguration").is_none());

    let request = json!({"deploymentConfiguration": {"maximumPercent": 150}});
    world.call("UpdateService", &request, &json!({}));
    let service = world.describe();
    assert_eq!(service["enableExecuteCommand"], true);
    assert_eq!(service["deploymentConfiguration"]["maximumPercent"], 150);
    assert_eq!(
        service["deploymentConfiguration"]["minimumHealthyPercent"],
        100
    );
}

#[test]
fn an_update_rolls_new_tasks_first_and_shows_the_old_deployment_meanwhile() {
    let mut world = created();
    let old = world.run_all();
    // Moto repeats the name that was given.
    let service = world.call(
        "UpdateService",
        &json!({}),
        &json!({"taskDefinition": "web:2"}),
    );
    assert_eq!(service["taskDefinition"], arn(2));
    assert_eq!(service["deployments"][0]["taskDefinition"], arn(2));
    assert_eq!(service["deployments"][0]["runningCount"], 0);
    assert_eq!(service["deployments"][1]["status"], "ACTIVE");
    assert_eq!(service["deployments"][1]["taskDefinition"], arn(1));
    assert_eq!(service["deployments"][1]["runningCount"], 2);

    let (new, stopped) = world.fleet();
    assert_eq!((new.len(), stopped.len()), (2, 0));
    world.runtime.task_running(&new[0]);
    assert_eq!(world.fleet(), (vec![], vec![]));
    world.runtime.task_running(&new[1]);
    let (_, stopped) = world.fleet();
    assert_eq!(BTreeSet::from_iter(&stopped), BTreeSet::from_iter(&old));

    assert_eq!(
        world.describe()["deployments"][0]["rolloutState"],
        "IN_PROGRESS"
    );
    for task in &old {
        world.runtime.task_stopping(task);
        world.end(task, StopCode::ServiceSchedulerInitiated);
    }
    let service = world.describe();
    assert_eq!(service["deployments"].as_array().unwrap().len(), 1);
    assert_eq!(service["deployments"][0]["rolloutState"], "COMPLETED");
    assert_eq!(service["deployments"][0]["failedTasks"], 0);
}

#[test]
fn a_crashing_update_counts_its_failures_waits_and_leaves_the_old_tasks_alone() {
    let mut world = created();
    let old = world.run_all();
    world.call(
        "UpdateService",
        &json!({}),
        &json!({"taskDefinition": arn(2)}),
    );
    let (new, _) = world.fleet();
    for task in &new {
        world.end(task, StopCode::EssentialContainerExited);
    }
    assert_eq!(world.describe()["deployments"][0]["failedTasks"], 2);
    assert_eq!(
        world.fleet(),
        (vec![], vec![]),
        "it waits before it starts again"
    );

    // An old task that ends is not counted as a failure of either, and its deployment stays.
    world.end(&old[0], StopCode::EssentialContainerExited);
    assert_eq!(world.describe()["deployments"][1]["failedTasks"], 0);
    let service = world.describe();
    assert_eq!(service["deployments"][1]["status"], "ACTIVE");
    assert_eq!(service["runningCount"], 1);
}

#[test]
fn a_switched_on_circuit_breaker_gives_up() {
    let mut world = World::new();
    let request = json!({"deploymentConfiguration": {"deploymentCircuitBreaker": {
        "enable": true, "rollback": false, "thresholdConfiguration": {"type": "COUNT", "value": 2},
    }}});
    world.call("CreateService", &request, &json!({}));
    for task in world.fleet().0 {
        world.end(&task, StopCode::EssentialContainerExited);
    }
    assert_eq!(world.describe()["deployments"][0]["rolloutState"], "FAILED");
}

#[test]
fn a_look_that_began_before_a_change_is_not_believed() {
    let mut world = created();
    let before = world.runtime.revision();
    let seen = world.moto.clone();
    world.call(
        "UpdateService",
        &json!({}),
        &json!({"taskDefinition": arn(2)}),
    );
    world.runtime.observe(before, &[seen]);
    let service = world.describe();
    assert_eq!(service["deployments"][0]["taskDefinition"], arn(2));
}

#[test]
fn a_deleted_service_drains_until_its_last_task_has_stopped() {
    let mut world = created();
    let tasks = world.run_all();
    let service = world.call("DeleteService", &json!({}), &json!({"status": "INACTIVE"}));
    assert_eq!(service["status"], "DRAINING");
    assert_eq!(service["desiredCount"], 0);
    assert_eq!(service["runningCount"], 2);
    assert_eq!(world.fleet().1.len(), 2);
    for task in &tasks {
        assert_eq!(world.describe()["status"], "DRAINING");
        world.end(task, StopCode::ServiceSchedulerInitiated);
    }
    assert_eq!(world.describe()["status"], "INACTIVE");
    assert_eq!(world.describe()["runningCount"], 0);
}

#[test]
fn tasks_are_listed_by_what_is_wanted_of_them_and_described_with_their_end() {
    let world = created();
    let tasks = world.run_all();
    let exit = ContainerExit {
        code: Some(1),
        reason: None,
    };
    let exits = BTreeMap::from([("app".to_owned(), exit)]);
    let reason = "Essential container in task exited";
    world
        .runtime
        .task_stopped(&tasks[0], StopCode::EssentialContainerExited, reason, exits);

    let list = |status: &str| {
        let request = json!({"cluster": "demo", "serviceName": "web", "desiredStatus": status});
        world.runtime.answer("ListTasks", &request).unwrap()["taskArns"].clone()
    };
    let running = format!("arn:aws:ecs:eu-west-1:123456789012:task/demo/{}", tasks[1]);
    assert_eq!(list("RUNNING"), json!([running]));
    let stopped = list("STOPPED");
    let request = json!({"cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/demo", "tasks": [stopped[0], "nobody"]});
    let described = world.runtime.answer("DescribeTasks", &request).unwrap();
    assert_eq!(
        described["failures"],
        json!([{"arn": "nobody", "reason": "MISSING"}])
    );
    let task = &described["tasks"][0];
    assert_eq!(task["lastStatus"], "STOPPED");
    assert_eq!(task["stopCode"], "EssentialContainerExited");
    assert_eq!(task["stoppedReason"], reason);
    assert_eq!(task["containers"][0]["exitCode"], 1);
    assert!(
        world
            .runtime
            .answer("DescribeClusters", &json!({}))
            .is_none()
    );
}
