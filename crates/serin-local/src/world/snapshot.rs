//! What the world looks like: all that a deployment could change or leave behind, as the APIs tell it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{CLUSTER, MESH};
use crate::data_plane::LocalRouter;
use crate::load_balancing::{list, metric_name};
use crate::moto::{Moto, MotoError, Service, percent_encode};

/// Everything in the world that a deployment could change or leave behind, each thing under its name.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldSnapshot {
    things: BTreeMap<String, Value>,
}

impl WorldSnapshot {
    /// Looks at the world, through the gateway: what a user would see of it is what counts.
    pub(crate) async fn take(gateway: &Moto, router: LocalRouter) -> Result<Self, MotoError> {
        let mut things = BTreeMap::new();
        match router {
            LocalRouter::AppMesh => {
                look_at_meshes(gateway, &mut things).await?;
                look_at_discovery(gateway, &mut things).await?;
            }
            LocalRouter::Alb => look_at_load_balancers(gateway, &mut things).await?,
        }
        look_at_services(gateway, &mut things).await?;
        look_at_scaling(gateway, &mut things).await?;
        for thing in things.values_mut() {
            leave_out_what_changes_by_itself(thing);
        }
        Ok(Self { things })
    }

    /// What is different in `later`, one sentence for each thing; empty when nothing is.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let gone = self
            .things
            .iter()
            .filter_map(|(name, before)| match later.things.get(name) {
                None => Some(format!("{name} is gone")),
                Some(after) if after != before => {
                    Some(format!("{name} was {before} and is {after}"))
                }
                Some(_) => None,
            });
        let left = later
            .things
            .keys()
            .filter(|name| !self.things.contains_key(*name))
            .map(|name| format!("{name} is left"));
        gone.chain(left).collect()
    }

    /// What is different in `later` beyond what a promotion is meant to change: the task definition of a service.
    pub fn differences_after_promotion(&self, later: &Self) -> Vec<String> {
        let families: Vec<String> = self.families().collect();
        self.but_for_versions(&families)
            .differences(&later.but_for_versions(&families))
    }

    /// What is different in `later` beyond what a replacement is meant to change: there may be other things than
    /// before, but of each kind as many.
    pub fn differences_after_replacement(&self, later: &Self) -> Vec<String> {
        let (before, after) = (self.kinds(), later.kinds());
        let mut kinds: Vec<&&str> = before.keys().chain(after.keys()).collect();
        kinds.sort();
        kinds.dedup();
        let count = |of: &BTreeMap<&str, usize>, kind: &str| of.get(kind).copied().unwrap_or(0);
        kinds
            .into_iter()
            .map(|kind| (kind, count(&before, kind), count(&after, kind)))
            .filter(|(_, before, after)| before != after)
            .map(|(kind, before, after)| format!("of {kind} there was {before} and is {after}"))
            .collect()
    }

    /// The task-definition families of the services.
    fn families(&self) -> impl Iterator<Item = String> {
        self.things
            .values()
            .filter_map(|thing| family(thing["taskDefinition"].as_str()?).map(ToOwned::to_owned))
    }

    /// The same world without the task definitions of these families and without their mention.
    fn but_for_versions(&self, families: &[String]) -> Self {
        let mut things = self.things.clone();
        things.retain(|name, _| {
            let definition = name.strip_prefix(TASK_DEFINITION).and_then(family);
            !definition.is_some_and(|family| families.iter().any(|known| known == family))
        });
        for thing in things.values_mut().filter_map(Value::as_object_mut) {
            thing.remove("taskDefinition");
            // Each version is rolled out by a deployment of its own.
            thing.remove("deployments");
        }
        Self { things }
    }

    /// How many things there are of each kind; a thing's kind is its name without the last word.
    fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        for (kind, _) in self.things.keys().filter_map(|name| name.rsplit_once(' ')) {
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// One thing by its name, such as `route demo/checkout/checkout`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.things.get(name)
    }

    /// The names of all things.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.things.keys().map(String::as_str)
    }
}

/// How the names of task definitions begin.
const TASK_DEFINITION: &str = "task definition ";

/// The family of `checkout:3`, or of the ARN that ends so.
fn family(task_definition: &str) -> Option<&str> {
    let name = task_definition.rsplit('/').next()?;
    Some(name.rsplit_once(':')?.0)
}

async fn look_at_meshes(
    moto: &Moto,
    things: &mut BTreeMap<String, Value>,
) -> Result<(), MotoError> {
    let nodes = moto
        .app_mesh(&format!("/meshes/{MESH}/virtualNodes"))
        .await?;
    for node in names(&nodes["virtualNodes"], "virtualNodeName") {
        let path = format!("/meshes/{MESH}/virtualNodes/{}", percent_encode(&node));
        let described = moto.app_mesh(&path).await?;
        things.insert(
            format!("virtual node {MESH}/{node}"),
            described["spec"].clone(),
        );
    }
    let routers = moto
        .app_mesh(&format!("/meshes/{MESH}/virtualRouters"))
        .await?;
    for router in names(&routers["virtualRouters"], "virtualRouterName") {
        let path = format!(
            "/meshes/{MESH}/virtualRouter/{}/routes",
            percent_encode(&router)
        );
        for route in names(&moto.app_mesh(&path).await?["routes"], "routeName") {
            let described = moto
                .app_mesh(&format!("{path}/{}", percent_encode(&route)))
                .await?;
            things.insert(
                format!("route {MESH}/{router}/{route}"),
                described["spec"].clone(),
            );
        }
    }
    Ok(())
}

async fn look_at_discovery(
    moto: &Moto,
    things: &mut BTreeMap<String, Value>,
) -> Result<(), MotoError> {
    let listed = moto
        .call(Service::CloudMap, "ListServices", &json!({}))
        .await?;
    for service in listed["Services"].as_array().into_iter().flatten() {
        let name = service["Name"].as_str().unwrap_or_default();
        let kept = members(
            service,
            &[
                "Id",
                "DnsConfig",
                "HealthCheckConfig",
                "HealthCheckCustomConfig",
                "Description",
            ],
        );
        things.insert(format!("Cloud Map service {name}"), kept);
    }
    Ok(())
}

async fn look_at_services(
    moto: &Moto,
    things: &mut BTreeMap<String, Value>,
) -> Result<(), MotoError> {
    let listed = moto
        .call(Service::Ecs, "ListServices", &json!({"cluster": CLUSTER}))
        .await?;
    let arns = listed["serviceArns"].clone();
    if arns.as_array().is_some_and(|arns| !arns.is_empty()) {
        let question = json!({"cluster": CLUSTER, "services": arns, "include": ["TAGS"]});
        let described = moto
            .call(Service::Ecs, "DescribeServices", &question)
            .await?;
        let services = described["services"].as_array().into_iter().flatten();
        for service in services.filter(|service| service["status"] != "INACTIVE") {
            let name = service["serviceName"].as_str().unwrap_or_default();
            things.insert(format!("ECS service {CLUSTER}/{name}"), service.clone());
        }
    }
    let listed = moto
        .call(
            Service::Ecs,
            "ListTaskDefinitions",
            &json!({"status": "ACTIVE"}),
        )
        .await?;
    for arn in listed["taskDefinitionArns"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = arn
            .as_str()
            .and_then(|arn| arn.rsplit('/').next())
            .unwrap_or_default();
        let question = json!({"taskDefinition": arn, "include": ["TAGS"]});
        let described = moto
            .call(Service::Ecs, "DescribeTaskDefinition", &question)
            .await?;
        things.insert(format!("{TASK_DEFINITION}{name}"), described);
    }
    Ok(())
}

/// Everything that Elastic Load Balancing tells, each thing under its ARN.
async fn look_at_load_balancers(
    moto: &Moto,
    things: &mut BTreeMap<String, Value>,
) -> Result<(), MotoError> {
    let mut arns = Vec::new();
    let mut keep = |kind: &str, listed: &Value, name: &str| -> Vec<String> {
        let mut kept = Vec::new();
        for thing in list(listed) {
            let Some(arn) = thing[name].as_str() else {
                continue;
            };
            things.insert(format!("{kind} {}", metric_name(arn)), thing.clone());
            // A rule that nobody made has no tags.
            if thing["IsDefault"] != "true" {
                arns.push(arn.to_owned());
            }
            kept.push(arn.to_owned());
        }
        kept
    };
    let nothing = json!({});
    let found = moto
        .load_balancing("DescribeLoadBalancers", &nothing)
        .await?;
    for balancer in keep("load balancer", &found["LoadBalancers"], "LoadBalancerArn") {
        let question = json!({"LoadBalancerArn": balancer});
        let found = moto.load_balancing("DescribeListeners", &question).await?;
        for listener in keep("listener", &found["Listeners"], "ListenerArn") {
            let question = json!({"ListenerArn": listener});
            let found = moto.load_balancing("DescribeRules", &question).await?;
            keep("rule", &found["Rules"], "RuleArn");
        }
    }
    let found = moto
        .load_balancing("DescribeTargetGroups", &nothing)
        .await?;
    let groups = keep("target group", &found["TargetGroups"], "TargetGroupArn");
    for group in groups {
        let question = json!({"TargetGroupArn": group});
        let found = moto
            .load_balancing("DescribeTargetGroupAttributes", &question)
            .await?;
        let mut attributes: Vec<Value> = list(&found["Attributes"]).cloned().collect();
        attributes.sort_by_key(|attribute| attribute["Key"].to_string());
        let name = format!("attributes of target group {}", metric_name(&group));
        things.insert(name, Value::Array(attributes));
    }
    for arn in arns {
        let question = json!({"ResourceArns": [arn]});
        let found = moto.load_balancing("DescribeTags", &question).await?;
        let tags = found["TagDescriptions"][0]["Tags"].clone();
        things.insert(format!("tags of {}", metric_name(&arn)), tags);
    }
    Ok(())
}

async fn look_at_scaling(
    moto: &Moto,
    things: &mut BTreeMap<String, Value>,
) -> Result<(), MotoError> {
    let question = json!({"ServiceNamespace": "ecs"});
    for (operation, listed, name, kind) in [
        (
            "DescribeScalableTargets",
            "ScalableTargets",
            "ResourceId",
            "scalable target",
        ),
        (
            "DescribeScalingPolicies",
            "ScalingPolicies",
            "PolicyName",
            "scaling policy",
        ),
        (
            "DescribeScheduledActions",
            "ScheduledActions",
            "ScheduledActionName",
            "scheduled action",
        ),
    ] {
        let found = moto
            .call(Service::AutoScaling, operation, &question)
            .await?;
        for thing in list(&found[listed]) {
            let name = thing[name].as_str().unwrap_or_default();
            things.insert(format!("{kind} {name}"), thing.clone());
        }
    }
    Ok(())
}

/// Moments, events and the counters of what runs.
const CHANGES_BY_ITSELF: [&str; 15] = [
    "CreatedTime",
    "CreationTime",
    "State",
    "createdAt",
    "deregisteredAt",
    "events",
    "failedTasks",
    "lastUpdatedAt",
    "pendingCount",
    "registeredAt",
    "rolloutState",
    "rolloutStateReason",
    "runningCount",
    "startedAt",
    "updatedAt",
];

fn leave_out_what_changes_by_itself(thing: &mut Value) {
    match thing {
        Value::Object(members) => {
            members.retain(|name, _| !CHANGES_BY_ITSELF.contains(&name.as_str()));
            members
                .values_mut()
                .for_each(leave_out_what_changes_by_itself);
        }
        Value::Array(values) => values.iter_mut().for_each(leave_out_what_changes_by_itself),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn names(list: &Value, member: &str) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|entry| entry[member].as_str().map(ToOwned::to_owned))
        .collect()
}

fn members(of: &Value, names: &[&str]) -> Value {
    let kept: Map<String, Value> = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), of.get(name)?.clone())))
        .collect();
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::WorldSnapshot;

    fn world(things: &[(&str, Value)]) -> WorldSnapshot {
        WorldSnapshot {
            things: things
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn what_is_gone_left_or_changed_is_named() {
        let before = world(&[("route a", json!(1)), ("node b", json!(1))]);
        let after = world(&[("route a", json!(2)), ("node c", json!(1))]);
        assert_eq!(
            before.differences(&after),
            ["node b is gone", "route a was 1 and is 2", "node c is left"]
        );
        assert!(before.differences(&before).is_empty());
    }

    fn version(family: &str, revision: u32) -> WorldSnapshot {
        let service = json!({
            "taskDefinition": format!("arn:aws:ecs:us-east-1:1:task-definition/{family}:{revision}"), "desiredCount": 2,
        });
        world(&[
            (&format!("task definition {family}:{revision}"), Value::Null),
            (&format!("ECS service demo/{family}"), service),
        ])
    }

    #[test]
    fn a_promotion_may_change_the_version_and_nothing_else() {
        let (before, mut after) = (version("checkout", 1), version("checkout", 2));
        assert_eq!(
            before.differences_after_promotion(&after),
            Vec::<String>::new()
        );
        after
            .things
            .insert("task definition checkout-canary:1".to_owned(), Value::Null);
        assert_eq!(
            before.differences_after_promotion(&after),
            ["task definition checkout-canary:1 is left"]
        );
    }

    #[test]
    fn a_replacement_leaves_as_many_things_as_there_were() {
        let (before, mut after) = (version("checkout", 1), version("checkout-canary", 1));
        assert_eq!(
            before.differences_after_replacement(&after),
            Vec::<String>::new()
        );
        after
            .things
            .insert("task definition checkout:1".to_owned(), Value::Null);
        assert_eq!(
            before.differences_after_replacement(&after),
            ["of task definition there was 1 and is 2"]
        );
    }
}
