//! The user's world: a service with a mesh around it, as it stands before anybody deploys with Serin.
//!
//! It is made once, in moto, and from then on only looked at: [`WorldSnapshot`] tells what a deployment left behind.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::moto::{Moto, MotoError, Service, percent_encode};
use crate::stack::{ACCOUNT, REGION};

/// The ECS cluster.
pub const CLUSTER: &str = "demo";

/// The ECS service, and with it the task-definition family, the virtual node, router and route, and the Cloud Map
/// service.
pub const SERVICE: &str = "checkout";

/// The mesh.
pub const MESH: &str = "demo";

/// The repository of the sample service's images.
const REPOSITORY: &str = "sample";

/// The tags in the repository. A tag says how the version behaves.
const TAGS: [&str; 6] = ["good-1", "good-2", "good-3", "bad", "slow", "crash"];

/// The tag that runs at the beginning.
const FIRST_TAG: &str = "good-1";

/// How many tasks the service has.
const TASKS: u32 = 2;

/// The image with a tag.
pub fn image(tag: &str) -> String {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY}:{tag}")
}

/// Makes the world.
pub(crate) async fn create(moto: &Moto) -> Result<(), MotoError> {
    create_images(moto).await?;
    let registry = create_discovery(moto).await?;
    create_mesh(moto).await?;
    create_service(moto, &registry).await
}

async fn create_images(moto: &Moto) -> Result<(), MotoError> {
    moto.call(
        Service::Ecr,
        "CreateRepository",
        &json!({"repositoryName": REPOSITORY}),
    )
    .await?;
    for tag in TAGS {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": digest(tag)},
            // Moto makes an image's digest from its layers', so each tag needs a layer of its own.
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 2, "digest": digest(tag),
            }],
        });
        let request = json!({
            "repositoryName": REPOSITORY,
            "imageManifest": manifest.to_string(),
            "imageManifestMediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "imageTag": tag,
        });
        moto.call(Service::Ecr, "PutImage", &request).await?;
    }
    Ok(())
}

/// A digest that no other tag has: the tag itself, in hexadecimal digits.
fn digest(tag: &str) -> String {
    let digits = tag
        .bytes()
        .fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
    format!("sha256:{digits:0>64}")
}

/// Makes the namespace and the service in Cloud Map; returns the service's ARN.
async fn create_discovery(moto: &Moto) -> Result<String, MotoError> {
    let namespace =
        json!({"Name": "demo.local", "CreatorRequestId": "demo.local", "Vpc": "vpc-0a1b2c3d"});
    moto.call(Service::CloudMap, "CreatePrivateDnsNamespace", &namespace)
        .await?;
    let listed = moto
        .call(Service::CloudMap, "ListNamespaces", &json!({}))
        .await?;
    let namespace = listed["Namespaces"][0]["Id"].clone();
    let service = json!({
        "Name": SERVICE,
        "NamespaceId": namespace,
        "CreatorRequestId": SERVICE,
        "Description": "where the sidecars find checkout",
        "DnsConfig": {"NamespaceId": namespace, "RoutingPolicy": "MULTIVALUE", "DnsRecords": [{"Type": "A", "TTL": 10}]},
        "HealthCheckCustomConfig": {"FailureThreshold": 1},
    });
    let created = moto
        .call(Service::CloudMap, "CreateService", &service)
        .await?;
    Ok(created["Service"]["Arn"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

async fn create_mesh(moto: &Moto) -> Result<(), MotoError> {
    moto.app_mesh_put(
        "/meshes",
        &json!({"meshName": MESH, "spec": {"egressFilter": {"type": "DROP_ALL"}}, "tags": []}),
    )
    .await?;
    let node = json!({
        "virtualNodeName": SERVICE,
        "spec": {
            "listeners": [{
                "portMapping": {"port": 8080, "protocol": "http"},
                "healthCheck": {
                    "protocol": "http", "path": "/health", "port": 8080,
                    "healthyThreshold": 2, "unhealthyThreshold": 2, "intervalMillis": 5000, "timeoutMillis": 2000,
                },
                "timeout": {"http": {"perRequest": {"unit": "s", "value": 15}}},
            }],
            "serviceDiscovery": {"awsCloudMap": {"namespaceName": "demo.local", "serviceName": SERVICE, "attributes": []}},
            "logging": {"accessLog": {"file": {"path": "/dev/stdout"}}},
        },
        "tags": [{"key": "team", "value": "payments"}],
    });
    moto.app_mesh_put(&format!("/meshes/{MESH}/virtualNodes"), &node)
        .await?;
    let router = json!({
        "virtualRouterName": SERVICE,
        "spec": {"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}]},
        "tags": [],
    });
    moto.app_mesh_put(&format!("/meshes/{MESH}/virtualRouters"), &router)
        .await?;
    let route = json!({
        "routeName": SERVICE,
        "spec": {
            "priority": 10,
            "httpRoute": {
                "match": {"prefix": "/"},
                "action": {"weightedTargets": [{"virtualNode": SERVICE, "weight": 100}]},
                "retryPolicy": {
                    "maxRetries": 2,
                    "perRetryTimeout": {"unit": "s", "value": 5},
                    "httpRetryEvents": ["gateway-error"],
                    "tcpRetryEvents": ["connection-error"],
                },
                "timeout": {"perRequest": {"unit": "s", "value": 15}, "idle": {"unit": "s", "value": 60}},
            },
        },
        "tags": [{"key": "team", "value": "payments"}],
    });
    moto.app_mesh_put(
        &format!("/meshes/{MESH}/virtualRouter/{SERVICE}/routes"),
        &route,
    )
    .await?;
    Ok(())
}

async fn create_service(moto: &Moto, registry: &str) -> Result<(), MotoError> {
    moto.call(
        Service::Ecs,
        "CreateCluster",
        &json!({"clusterName": CLUSTER}),
    )
    .await?;
    moto.call(Service::Ecs, "RegisterTaskDefinition", &task_definition())
        .await?;
    // Moto has a default network, and refuses one that does not exist.
    let subnets = moto.ec2_ids("DescribeSubnets", "subnetId").await?;
    let security_groups = moto.ec2_ids("DescribeSecurityGroups", "groupId").await?;
    let service = json!({
        "cluster": CLUSTER,
        "serviceName": SERVICE,
        "taskDefinition": SERVICE,
        "desiredCount": TASKS,
        "launchType": "FARGATE",
        "platformVersion": "LATEST",
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100},
        "networkConfiguration": {"awsvpcConfiguration": {
            "subnets": subnets, "securityGroups": security_groups, "assignPublicIp": "DISABLED",
        }},
        "serviceRegistries": [{"registryArn": registry}],
        "tags": [{"key": "team", "value": "payments"}],
    });
    moto.call(Service::Ecs, "CreateService", &service).await?;
    Ok(())
}

fn task_definition() -> Value {
    let envoy_image =
        "840364872350.dkr.ecr.us-east-1.amazonaws.com/aws-appmesh-envoy:v1.29.12.1-prod";
    json!({
        "family": SERVICE,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "512",
        "memory": "1024",
        "executionRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/checkout-execution"),
        "taskRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/checkout-task"),
        "proxyConfiguration": {
            "type": "APPMESH",
            "containerName": "envoy",
            "properties": [
                {"name": "AppPorts", "value": "8080"},
                {"name": "EgressIgnoredIPs", "value": "169.254.170.2,169.254.169.254"},
                {"name": "IgnoredUID", "value": "1337"},
                {"name": "ProxyEgressPort", "value": "15001"},
                {"name": "ProxyIngressPort", "value": "15000"},
            ],
        },
        "containerDefinitions": [
            {
                "name": "app",
                "image": image(FIRST_TAG),
                "essential": true,
                "cpu": 256,
                "memory": 512,
                "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
                "environment": [{"name": "STAGE", "value": "demo"}],
                "dependsOn": [{"containerName": "envoy", "condition": "HEALTHY"}],
            },
            {
                "name": "envoy",
                "image": envoy_image,
                "essential": true,
                "cpu": 256,
                "memory": 512,
                "user": "1337",
                "portMappings": [{"containerPort": 9901, "protocol": "tcp"}],
                "environment": [{
                    "name": "APPMESH_RESOURCE_ARN",
                    "value": format!("arn:aws:appmesh:{REGION}:{ACCOUNT}:mesh/{MESH}/virtualNode/{SERVICE}"),
                }],
                "healthCheck": {
                    "command": ["CMD-SHELL", "curl -s http://localhost:9901/server_info | grep state | grep -q LIVE"],
                    "interval": 5, "timeout": 2, "retries": 3, "startPeriod": 10,
                },
            },
        ],
        "tags": [{"key": "team", "value": "payments"}],
    })
}

/// Everything in the world that a deployment could change or leave behind, each thing under its name.
#[derive(Debug, Clone, PartialEq)]
pub struct WorldSnapshot {
    things: BTreeMap<String, Value>,
}

impl WorldSnapshot {
    /// Looks at the world.
    pub(crate) async fn take(moto: &Moto) -> Result<Self, MotoError> {
        let mut things = BTreeMap::new();
        look_at_meshes(moto, &mut things).await?;
        look_at_discovery(moto, &mut things).await?;
        look_at_services(moto, &mut things).await?;
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
            let kept = members(
                service,
                &[
                    "taskDefinition",
                    "desiredCount",
                    "serviceRegistries",
                    "loadBalancers",
                    "networkConfiguration",
                    "tags",
                ],
            );
            things.insert(format!("ECS service {CLUSTER}/{name}"), kept);
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
        things.insert(format!("{TASK_DEFINITION}{name}"), Value::Null);
    }
    Ok(())
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

/// The share of the traffic that each virtual node gets, in percent, summed over nothing: the user's world has one
/// route.
pub(crate) async fn split(moto: &Moto) -> Result<Vec<(String, u32)>, MotoError> {
    let path = format!("/meshes/{MESH}/virtualRouter/{SERVICE}/routes/{SERVICE}");
    let route = moto.app_mesh(&path).await?;
    let targets = route["spec"]["httpRoute"]["action"]["weightedTargets"]
        .as_array()
        .into_iter()
        .flatten();
    Ok(targets
        .filter_map(|target| {
            let weight = target["weight"]
                .as_u64()
                .and_then(|weight| u32::try_from(weight).ok());
            Some((target["virtualNode"].as_str()?.to_owned(), weight?))
        })
        .collect())
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
