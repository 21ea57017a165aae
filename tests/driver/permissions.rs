//! What the functions' roles allow.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::project::Step;
use crate::template::{one_or_many, resources_of, statements};

/// The services as the adapters' messages name them, and as IAM does.
pub const SERVICES: [(&str, &str); 12] = [
    ("Elastic Load Balancing", "elasticloadbalancing"),
    ("Application Auto Scaling", "application-autoscaling"),
    ("ECS", "ecs"),
    ("App Mesh", "appmesh"),
    ("Cloud Map", "servicediscovery"),
    ("CloudWatch", "cloudwatch"),
    ("DynamoDB", "dynamodb"),
    ("ECR", "ecr"),
    ("Step Functions", "states"),
    ("EventBridge", "events"),
    ("Secrets Manager", "secretsmanager"),
    ("SNS", "sns"),
];

/// The action that a call of an operation is, the service as the adapters name it.
pub fn action(service: &str, operation: &str) -> String {
    let (_, prefix) = SERVICES
        .iter()
        .find(|(name, _)| *name == service)
        .expect("a service that the adapters know");
    format!("{prefix}:{operation}")
}

/// The actions that a step's function is granted.
pub fn granted_actions(step: &Step) -> BTreeSet<String> {
    granted(step).iter().flat_map(actions).collect()
}

/// The statements of a step's function.
pub fn granted(step: &Step) -> Vec<Value> {
    statements(
        &resources_of("AWS::Serverless::Function")[&format!("{}Function", step.pascal())]["Properties"],
    )
}

/// The actions of a statement.
pub fn actions(statement: &Value) -> Vec<String> {
    one_or_many(&statement["Action"])
        .into_iter()
        .map(|action| action.as_str().unwrap().to_owned())
        .collect()
}
