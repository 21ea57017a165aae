//! The load balancer of the user's world: two listeners that reach the service, one by a rule and one by its default
//! action.

use serde_json::{Value, json};

use super::SERVICE;
use crate::moto::{Moto, MotoError};

/// The load balancer.
const NAME: &str = "demo";

/// How long a target drains, in seconds: little, so that nobody waits long for a demo, and more than a slow request
/// takes.
const DEREGISTRATION_DELAY: &str = "5";

/// Makes the load balancer and returns the ARN of the service's target group.
pub(super) async fn create(moto: &Moto) -> Result<String, MotoError> {
    let tags = json!([{"Key": "team", "Value": "payments"}]);
    let subnets = moto.ec2_ids("DescribeSubnets", "subnetId").await?;
    let vpc = moto.ec2_ids("DescribeVpcs", "vpcId").await?;
    let security_groups = moto.ec2_ids("DescribeSecurityGroups", "groupId").await?;
    let balancer = json!({
        "Name": NAME, "Type": "application", "Scheme": "internal", "IpAddressType": "ipv4",
        "Subnets": subnets, "SecurityGroups": security_groups, "Tags": tags,
    });
    let created = moto.load_balancing("CreateLoadBalancer", &balancer).await?;
    let balancer = created["LoadBalancers"][0]["LoadBalancerArn"].clone();

    let group = json!({
        "Name": SERVICE, "Protocol": "HTTP", "ProtocolVersion": "HTTP1", "Port": 8080, "VpcId": vpc.first(),
        "TargetType": "ip", "IpAddressType": "ipv4",
        "HealthCheckEnabled": true, "HealthCheckProtocol": "HTTP", "HealthCheckPort": "traffic-port",
        "HealthCheckPath": "/health", "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2,
        "HealthyThresholdCount": 3, "UnhealthyThresholdCount": 2, "Matcher": {"HttpCode": "200-299"},
        "Tags": tags,
    });
    let created = moto.load_balancing("CreateTargetGroup", &group).await?;
    let group = created["TargetGroups"][0]["TargetGroupArn"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let attributes = json!({"TargetGroupArn": group, "Attributes": [
        {"Key": "deregistration_delay.timeout_seconds", "Value": DEREGISTRATION_DELAY},
        {"Key": "load_balancing.algorithm.type", "Value": "least_outstanding_requests"},
    ]});
    moto.load_balancing("ModifyTargetGroupAttributes", &attributes)
        .await?;

    let nobody = json!([{"Type": "fixed-response", "Order": 1, "FixedResponseConfig": {
        "StatusCode": "404", "ContentType": "text/plain", "MessageBody": "nobody is here",
    }}]);
    let listener = create_listener(moto, &balancer, 80, &nobody, &tags).await?;
    let rule = json!({
        "ListenerArn": listener, "Priority": 10, "Tags": tags,
        "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}],
        "Actions": forward(&group),
    });
    moto.load_balancing("CreateRule", &rule).await?;
    create_listener(moto, &balancer, 8081, &forward(&group), &tags).await?;
    Ok(group)
}

async fn create_listener(
    moto: &Moto,
    balancer: &Value,
    port: u16,
    actions: &Value,
    tags: &Value,
) -> Result<Value, MotoError> {
    let listener = json!({
        "LoadBalancerArn": balancer, "Protocol": "HTTP", "Port": port, "DefaultActions": actions, "Tags": tags,
    });
    let created = moto.load_balancing("CreateListener", &listener).await?;
    Ok(created["Listeners"][0]["ListenerArn"].clone())
}

/// A forward to one target group, in both forms at once, as AWS shows it.
fn forward(group: &str) -> Value {
    json!([{
        "Type": "forward", "Order": 1, "TargetGroupArn": group,
        "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": group, "Weight": 1}],
            "TargetGroupStickinessConfig": {"Enabled": false},
        },
    }])
}
