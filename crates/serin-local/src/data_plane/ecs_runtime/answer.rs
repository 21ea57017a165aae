//! ECS's answers: the shapes in which its API tells what runs.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::state::{Deployment, Service, ServiceStatus, State, Task, TaskStatus};
use super::{EcsRuntime, ServiceKey, last_segment};

/// The members of a service that ECS keeps and moto drops or keeps only sometimes.
pub(super) const REMEMBERED_MEMBERS: [&str; 15] = [
    "availabilityZoneRebalancing",
    "capacityProviderStrategy",
    "deploymentConfiguration",
    "deploymentController",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "healthCheckGracePeriodSeconds",
    "loadBalancers",
    "networkConfiguration",
    "placementConstraints",
    "placementStrategy",
    "platformVersion",
    "propagateTags",
    "schedulingStrategy",
    "serviceRegistries",
];

/// The members that ECS shows on each deployment instead of on the service.
pub(super) const DEPLOYMENT_MEMBERS: [&str; 6] = [
    "capacityProviderStrategy",
    "networkConfiguration",
    "platformVersion",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
];

impl State {
    /// Puts what runs into moto's answer.
    pub(super) fn complete(&self, key: &ServiceKey, answer: &mut Value) {
        let (Some(service), Some(answer)) = (self.services.get(key), answer.as_object_mut()) else {
            return;
        };
        let template = answer
            .get("deployments")
            .and_then(|deployments| deployments.get(0))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let desired = if service.status == ServiceStatus::Active {
            service.desired
        } else {
            0
        };
        let mut running = 0;
        let mut pending = 0;
        for task in self.tasks.values().filter(|task| task.key == *key) {
            running += usize::from(task.status == TaskStatus::Running);
            pending += usize::from(task.status == TaskStatus::Pending);
        }
        answer.insert("status".to_owned(), json!(service.status.name()));
        answer.insert("desiredCount".to_owned(), json!(desired));
        answer.insert("runningCount".to_owned(), json!(running));
        answer.insert("pendingCount".to_owned(), json!(pending));
        if let Some(primary) = service.deployments.first() {
            answer.insert("taskDefinition".to_owned(), json!(primary.task_definition));
        }
        let deployments: Vec<Value> = service
            .deployments
            .iter()
            .enumerate()
            .map(|(index, deployment)| {
                let wanted = if index == 0 {
                    desired
                } else {
                    deployment.held.min(desired)
                };
                self.deployment(service, deployment, index == 0, wanted, &template)
            })
            .collect();
        answer.insert("deployments".to_owned(), Value::Array(deployments));
        answer.insert("events".to_owned(), Value::Array(service.events.clone()));
        complete_members(service, answer);
    }

    fn deployment(
        &self,
        service: &Service,
        deployment: &Deployment,
        primary: bool,
        desired: usize,
        template: &Map<String, Value>,
    ) -> Value {
        let mut running = 0;
        let mut pending = 0;
        for task in self
            .tasks
            .values()
            .filter(|task| task.deployment == deployment.id)
        {
            running += usize::from(task.status == TaskStatus::Running);
            pending += usize::from(task.status == TaskStatus::Pending);
        }
        let mut shown = template.clone();
        for name in DEPLOYMENT_MEMBERS {
            if let Some(value) = service.members.get(name) {
                shown.insert(name.to_owned(), value.clone());
            }
        }
        if service.members.contains_key("capacityProviderStrategy") {
            shown.remove("launchType");
        }
        let reason = format!(
            "ECS deployment {} {}.",
            deployment.id,
            deployment.rollout.in_words()
        );
        for (name, value) in [
            ("id", json!(deployment.id)),
            ("status", json!(if primary { "PRIMARY" } else { "ACTIVE" })),
            ("taskDefinition", json!(deployment.task_definition)),
            ("desiredCount", json!(desired)),
            ("runningCount", json!(running)),
            ("pendingCount", json!(pending)),
            ("failedTasks", json!(deployment.failed_tasks)),
            ("rolloutState", json!(deployment.rollout.name())),
            ("rolloutStateReason", json!(reason)),
            ("createdAt", epoch(deployment.created)),
            ("updatedAt", epoch(deployment.updated)),
        ] {
            shown.insert(name.to_owned(), value);
        }
        Value::Object(shown)
    }

    pub(super) fn list_tasks(&self, request: &Value, runtime: &EcsRuntime) -> Value {
        let cluster = request["cluster"].as_str().map_or("default", last_segment);
        let service = request["serviceName"].as_str().map(last_segment);
        let family = request["family"].as_str();
        let started_by = request["startedBy"].as_str();
        let stopped = request["desiredStatus"].as_str() == Some("STOPPED");
        let mut found: Vec<(&String, &Task)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.key.cluster == cluster && task.unwanted == stopped)
            .filter(|(_, task)| service.is_none_or(|name| task.key.service == name))
            .filter(|(_, task)| family.is_none_or(|name| task.definition.family == name))
            .filter(|(_, task)| started_by.is_none_or(|id| task.deployment == id))
            .collect();
        found.sort_by_key(|(_, task)| std::cmp::Reverse(task.created));
        let arns: Vec<String> = found
            .into_iter()
            .map(|(id, task)| runtime.task_arn(&task.key, id))
            .collect();
        json!({"taskArns": arns})
    }

    pub(super) fn describe_tasks(&self, request: &Value, runtime: &EcsRuntime) -> Value {
        let cluster = request["cluster"].as_str().map_or("default", last_segment);
        let mut tasks = Vec::new();
        let mut failures = Vec::new();
        for named in request["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let id = last_segment(named);
            match self
                .tasks
                .get(id)
                .filter(|task| task.key.cluster == cluster)
            {
                Some(task) => tasks.push(task.describe(id, runtime)),
                None => failures.push(json!({"arn": named, "reason": "MISSING"})),
            }
        }
        json!({"tasks": tasks, "failures": failures})
    }
}

impl Task {
    fn describe(&self, id: &str, runtime: &EcsRuntime) -> Value {
        let arn = runtime.task_arn(&self.key, id);
        let healthy = self.status == TaskStatus::Running;
        let health = if healthy { "HEALTHY" } else { "UNKNOWN" };
        let containers: Vec<Value> = self
            .definition
            .containers
            .iter()
            .map(|container| {
                let mut shown = json!({
                    "containerArn": format!("{}/{}", arn.replacen(":task/", ":container/", 1), container.name),
                    "taskArn": arn,
                    "name": container.name,
                    "image": container.image,
                    "lastStatus": self.status.name(),
                    "healthStatus": health,
                    "networkInterfaces": [],
                });
                if let Some(exit) = self.exits.get(&container.name) {
                    if let Some(code) = exit.code {
                        shown["exitCode"] = json!(code);
                    }
                    if let Some(reason) = &exit.reason {
                        shown["reason"] = json!(reason);
                    }
                }
                shown
            })
            .collect();
        let mut shown = json!({
            "taskArn": arn,
            "clusterArn": runtime.cluster_arn(&self.key.cluster),
            "taskDefinitionArn": self.definition.arn,
            "group": format!("service:{}", self.key.service),
            "startedBy": self.deployment,
            "lastStatus": self.status.name(),
            "desiredStatus": if self.unwanted { "STOPPED" } else { "RUNNING" },
            "healthStatus": health,
            "launchType": "FARGATE",
            "platformFamily": "Linux",
            "platformVersion": "1.4.0",
            "availabilityZone": format!("{}a", runtime.region),
            "attachments": [],
            "attributes": [],
            "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
            "tags": [],
            "version": 1,
            "createdAt": epoch(self.created),
            "containers": containers,
        });
        for (name, value) in [
            ("cpu", &self.definition.cpu),
            ("memory", &self.definition.memory),
        ] {
            if let Some(value) = value {
                shown[name] = json!(value);
            }
        }
        for (name, moment) in [
            ("startedAt", self.started),
            ("stoppingAt", self.stopping),
            ("stoppedAt", self.stopped),
        ] {
            if let Some(moment) = moment {
                shown[name] = epoch(moment);
            }
        }
        if let Some(code) = self.stop_code {
            shown["stopCode"] = json!(code);
        }
        if let Some(reason) = &self.stopped_reason {
            shown["stoppedReason"] = json!(reason);
        }
        shown
    }
}

/// The members of a service that are no matter of what runs.
fn complete_members(service: &Service, answer: &mut Map<String, Value>) {
    for name in REMEMBERED_MEMBERS {
        if let Some(value) = service.members.get(name) {
            answer.insert(name.to_owned(), value.clone());
        }
    }
    for (name, value) in [
        ("enableECSManagedTags", json!(false)),
        ("enableExecuteCommand", json!(false)),
        ("placementConstraints", json!([])),
        ("placementStrategy", json!([])),
        ("propagateTags", json!("NONE")),
    ] {
        answer.entry(name).or_insert(value);
    }
    if service.members.contains_key("capacityProviderStrategy") {
        answer.remove("launchType");
    }
    if answer
        .get("networkConfiguration")
        .is_some_and(|value| *value == json!({}))
    {
        answer.remove("networkConfiguration");
    }
    if answer
        .get("deploymentController")
        .is_none_or(|controller| controller["type"] == "ECS")
    {
        let given = answer
            .get("deploymentConfiguration")
            .cloned()
            .unwrap_or_default();
        let mut whole = json!({
            "deploymentCircuitBreaker": {"enable": false, "rollback": false},
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
            "strategy": "ROLLING",
        });
        for (name, value) in given.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        answer.insert("deploymentConfiguration".to_owned(), whole);
    }
}

/// Seconds since 1970 with milliseconds, as AWS's JSON protocols write a moment.
pub(super) fn epoch(moment: Timestamp) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this age have 41 bits, a f64 holds 53"
    )]
    let seconds = moment.as_millisecond() as f64 / 1000.0;
    json!(seconds)
}
