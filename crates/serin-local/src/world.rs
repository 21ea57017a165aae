//! The user's world: a service with its router, as it stands before anybody deploys with Serin.
//!
//! It is made once, in moto, and from then on only looked at: [`WorldSnapshot`] tells what a deployment left behind.

mod load_balancer;
mod snapshot;

use serde_json::{Value, json};

use crate::data_plane::LocalRouter;
use crate::load_balancing::{self, group_name};
use crate::moto::{Moto, MotoError, Service};
use crate::stack::{ACCOUNT, REGION};

pub use self::snapshot::WorldSnapshot;

/// The ECS cluster.
pub const CLUSTER: &str = "demo";

/// The ECS service, and with it the task-definition family, and the target group or the virtual node, router and route
/// and the Cloud Map service.
pub const SERVICE: &str = "checkout";

/// The mesh.
pub const MESH: &str = "demo";

/// The repository of the sample service's images.
pub const REPOSITORY: &str = "sample";

/// The tags in the repository. A tag says how the version behaves.
const TAGS: [&str; 7] = [
    "good-1", "good-2", "good-3", "worse", "bad", "slow", "crash",
];

/// The tag that runs at the beginning.
const FIRST_TAG: &str = "good-1";

/// How many tasks the service has, and how many autoscaling may make of it.
const TASKS: u32 = 2;
const MOST_TASKS: u32 = 10;

/// The policy by which the service scales.
const SCALING_POLICY: &str = "processor-load";

/// The image with a tag.
pub fn image(tag: &str) -> String {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY}:{tag}")
}

/// Makes the world.
pub(crate) async fn create(moto: &Moto, router: LocalRouter) -> Result<(), MotoError> {
    create_images(moto).await?;
    match router {
        LocalRouter::AppMesh => {
            let registry = create_discovery(moto).await?;
            create_mesh(moto).await?;
            let members = json!({"serviceRegistries": [{"registryArn": registry}]});
            create_service(moto, &task_definition_in_mesh(), &members).await?;
        }
        LocalRouter::Alb => {
            let group = load_balancer::create(moto).await?;
            let members = json!({
                "loadBalancers": [{"targetGroupArn": group, "containerName": "app", "containerPort": 8080}],
                "healthCheckGracePeriodSeconds": 30,
            });
            create_service(moto, &task_definition(), &members).await?;
        }
    }
    create_scaling(moto).await
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

/// The digest by which Amazon ECR knows the image with a tag.
pub(crate) async fn digest_of(moto: &Moto, tag: &str) -> Result<String, MotoError> {
    let request = json!({"repositoryName": REPOSITORY, "imageIds": [{"imageTag": tag}]});
    let found = moto.call(Service::Ecr, "DescribeImages", &request).await?;
    Ok(found["imageDetails"][0]["imageDigest"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
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

/// Makes the service. `members` are those that its router asks for.
async fn create_service(
    moto: &Moto,
    task_definition: &Value,
    members: &Value,
) -> Result<(), MotoError> {
    moto.call(
        Service::Ecs,
        "CreateCluster",
        &json!({"clusterName": CLUSTER}),
    )
    .await?;
    moto.call(Service::Ecs, "RegisterTaskDefinition", task_definition)
        .await?;
    // Moto has a default network, and refuses one that does not exist.
    let subnets = moto.ec2_ids("DescribeSubnets", "subnetId").await?;
    let security_groups = moto.ec2_ids("DescribeSecurityGroups", "groupId").await?;
    let mut service = json!({
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
        "tags": [{"key": "team", "value": "payments"}],
    });
    for (name, value) in members.as_object().into_iter().flatten() {
        service[name] = value.clone();
    }
    moto.call(Service::Ecs, "CreateService", &service).await?;
    Ok(())
}

/// Lets the service scale by its processors' load.
async fn create_scaling(moto: &Moto) -> Result<(), MotoError> {
    let target = json!({
        "ServiceNamespace": "ecs",
        "ResourceId": format!("service/{CLUSTER}/{SERVICE}"),
        "ScalableDimension": "ecs:service:DesiredCount",
        "MinCapacity": TASKS,
        "MaxCapacity": MOST_TASKS,
    });
    moto.call(Service::AutoScaling, "RegisterScalableTarget", &target)
        .await?;
    let policy = json!({
        "PolicyName": SCALING_POLICY,
        "ServiceNamespace": target["ServiceNamespace"],
        "ResourceId": target["ResourceId"],
        "ScalableDimension": target["ScalableDimension"],
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 60.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            "ScaleOutCooldown": 60,
            "ScaleInCooldown": 300,
        },
    });
    moto.call(Service::AutoScaling, "PutScalingPolicy", &policy)
        .await?;
    Ok(())
}

/// Takes the service's scaling away, if it has any.
pub(crate) async fn remove_scaling(moto: &Moto) -> Result<(), MotoError> {
    let target = json!({
        "ServiceNamespace": "ecs",
        "ResourceId": format!("service/{CLUSTER}/{SERVICE}"),
        "ScalableDimension": "ecs:service:DesiredCount",
    });
    let mut policy = target.clone();
    policy["PolicyName"] = json!(SCALING_POLICY);
    for (operation, request) in [
        ("DeleteScalingPolicy", policy),
        ("DeregisterScalableTarget", target),
    ] {
        match moto.call(Service::AutoScaling, operation, &request).await {
            // Moto calls what is not there invalid.
            Err(MotoError::Refused { code, .. }) if code == "ValidationException" => {}
            result => drop(result?),
        }
    }
    Ok(())
}

/// The task definition of a service that is in no mesh.
fn task_definition() -> Value {
    json!({
        "family": SERVICE,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/checkout-execution"),
        "taskRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/checkout-task"),
        "containerDefinitions": [{
            "name": "app",
            "image": image(FIRST_TAG),
            "essential": true,
            "cpu": 256,
            "memory": 512,
            "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
            "environment": [{"name": "STAGE", "value": "demo"}],
        }],
        "tags": [{"key": "team", "value": "payments"}],
    })
}

fn task_definition_in_mesh() -> Value {
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

/// The share of the traffic that each virtual node or target group gets, in the router's own weights. Of a load balancer
/// the first rule that forwards speaks for all: a deployment changes them alike.
pub(crate) async fn split(
    moto: &Moto,
    router: LocalRouter,
) -> Result<Vec<(String, u32)>, MotoError> {
    match router {
        LocalRouter::AppMesh => split_of_route(moto).await,
        LocalRouter::Alb => split_of_rule(moto).await,
    }
}

async fn split_of_rule(moto: &Moto) -> Result<Vec<(String, u32)>, MotoError> {
    let listeners = load_balancing::listeners(moto).await?;
    let targets = listeners
        .iter()
        .flat_map(|listener| &listener.rules)
        .map(load_balancing::Rule::targets)
        .find(|targets| !targets.is_empty())
        .unwrap_or_default();
    let mut split: Vec<(String, u32)> = targets
        .into_iter()
        .map(|(arn, weight)| {
            let weight = u32::try_from(weight).unwrap_or(u32::MAX);
            (group_name(&arn).to_owned(), weight)
        })
        .collect();
    split.sort();
    Ok(split)
}

async fn split_of_route(moto: &Moto) -> Result<Vec<(String, u32)>, MotoError> {
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
