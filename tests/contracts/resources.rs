//! What a role allows, it allows on no more than the action knows how to be limited to.
//!
//! The table follows the Service Authorization Reference
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html>), in the form in which cfn-lint has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use serin_driver::permissions::{actions, granted};
use serin_driver::template::{one_or_many, resources_of, statements};

use super::functions;

/// What an action can be limited to.
enum Reach {
    /// These resources, by a part of their ARN or by what the template calls them.
    To(&'static [&'static str]),
    /// Nothing, as far as the reference knows.
    Everything,
    /// Something that does not serve here, for this reason.
    EverythingBecause(&'static str),
}

use Reach::{Everything, EverythingBecause, To};

const ROUTE: &str = ":mesh/*/virtualRouter/*/route/";
const NODE: &str = ":mesh/*/virtualNode/";
const REGISTRY: &str = ":service/";
const LEDGER: &str = "LedgerTable.Arn";

/// What is done to one thing or the other: what carries tags, and the state machine that is started.
const ONE_OR_THE_OTHER: [&str; 2] = ["ecs:TagResource", "states:StartExecution"];

/// Every action that some function is granted.
const REACHES: &[(&str, Reach)] = &[
    (
        "application-autoscaling:DescribeScalableTargets",
        Everything,
    ),
    (
        "application-autoscaling:RegisterScalableTarget",
        To(&[":scalable-target/"]),
    ),
    (
        "appmesh:CreateVirtualNode",
        To(&[NODE, ":mesh/*/virtualService/"]),
    ),
    ("appmesh:DeleteVirtualNode", To(&[NODE])),
    ("appmesh:DescribeRoute", To(&[ROUTE])),
    ("appmesh:DescribeVirtualNode", To(&[NODE])),
    ("appmesh:ListRoutes", To(&[":mesh/*/virtualRouter/*"])),
    ("appmesh:ListTagsForResource", To(&[NODE])),
    ("appmesh:ListVirtualRouters", To(&[":mesh/*"])),
    ("appmesh:TagResource", To(&[NODE])),
    ("appmesh:UpdateRoute", To(&[ROUTE, NODE])),
    (
        "cloudwatch:DescribeAlarms",
        EverythingBecause("limited to some alarms it tells nothing of composite ones"),
    ),
    (
        "cloudwatch:GetMetricData",
        EverythingBecause(
            "it can be limited to data sets only, and the metrics of ECS and of load balancers are in none",
        ),
    ),
    ("cognito-idp:DescribeUserPoolClient", To(&[":userpool/"])),
    ("dynamodb:GetItem", To(&[LEDGER])),
    ("dynamodb:PutItem", To(&[LEDGER])),
    ("dynamodb:Query", To(&["${LedgerTable.Arn}/index/"])),
    ("dynamodb:Scan", To(&["${LedgerTable.Arn}/index/"])),
    ("dynamodb:UpdateItem", To(&[LEDGER])),
    ("ecr:DescribeImages", To(&[":repository/"])),
    ("ecs:CreateService", To(&[":service/"])),
    ("ecs:DeleteService", To(&[":service/"])),
    ("ecs:DeregisterTaskDefinition", Everything),
    ("ecs:DescribeServices", To(&[":service/"])),
    ("ecs:DescribeTaskDefinition", Everything),
    ("ecs:DescribeTasks", To(&[":task/"])),
    (
        "ecs:ListTasks",
        EverythingBecause(
            "it can be limited to container instances only, and is asked of a service",
        ),
    ),
    (
        "ecs:RegisterTaskDefinition",
        EverythingBecause(
            "the reference has known task definitions for a short time only (aws/containers-roadmap#929), and a role that is \
             wrong here could deploy nothing; what may be run is limited by iam:PassRole",
        ),
    ),
    ("ecs:TagResource", To(&[":service/", ":task-definition/"])),
    ("ecs:UpdateService", To(&[":service/"])),
    ("elasticloadbalancing:AddTags", To(&[":targetgroup/"])),
    (
        "elasticloadbalancing:CreateTargetGroup",
        To(&[":targetgroup/"]),
    ),
    (
        "elasticloadbalancing:DeleteTargetGroup",
        To(&[":targetgroup/"]),
    ),
    ("elasticloadbalancing:DescribeListeners", Everything),
    ("elasticloadbalancing:DescribeRules", Everything),
    ("elasticloadbalancing:DescribeTags", Everything),
    (
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        Everything,
    ),
    ("elasticloadbalancing:DescribeTargetGroups", Everything),
    ("elasticloadbalancing:DescribeTargetHealth", Everything),
    ("elasticloadbalancing:ModifyListener", To(&[":listener/"])),
    ("elasticloadbalancing:ModifyRule", To(&[":listener-rule/"])),
    (
        "elasticloadbalancing:ModifyTargetGroupAttributes",
        To(&[":targetgroup/"]),
    ),
    ("events:PutEvents", To(&[":event-bus/default"])),
    ("iam:PassRole", To(&[":role/"])),
    (
        "secretsmanager:GetSecretValue",
        To(&["NoticeChannelsSecret"]),
    ),
    (
        "servicediscovery:CreateService",
        To(&[REGISTRY, ":namespace/"]),
    ),
    ("servicediscovery:DeleteService", To(&[REGISTRY])),
    ("servicediscovery:GetInstancesHealthStatus", To(&[REGISTRY])),
    ("servicediscovery:GetNamespace", To(&[":namespace/"])),
    ("servicediscovery:GetService", To(&[REGISTRY])),
    ("servicediscovery:ListInstances", To(&[REGISTRY])),
    ("servicediscovery:ListServices", Everything),
    ("servicediscovery:TagResource", Everything),
    ("sns:Publish", To(&[":sns:"])),
    (
        "states:DescribeExecution",
        To(&[":execution:${AWS::StackName}-canary-deployment:"]),
    ),
    ("states:SendTaskSuccess", Everything),
    (
        "states:StartExecution",
        To(&["Recovery", "CanaryDeployment"]),
    ),
    (
        "states:StopExecution",
        To(&[":execution:${AWS::StackName}-canary-deployment:"]),
    ),
];

/// A resource of a statement as text: the ARN's pattern, or what is referred to.
fn text(resource: &Value) -> String {
    match resource {
        Value::String(text) => text.clone(),
        Value::Object(tagged) => tagged.values().next().unwrap().as_str().unwrap().to_owned(),
        other => panic!("{other}"),
    }
}

fn reaches() -> BTreeMap<&'static str, &'static Reach> {
    REACHES
        .iter()
        .map(|(action, reach)| (*action, reach))
        .collect()
}

#[test]
fn every_action_is_allowed_on_no_more_than_it_can_be_limited_to() {
    let reaches = reaches();
    for step in functions() {
        for statement in granted(step) {
            assert_eq!(statement["Effect"], "Allow");
            let resources: Vec<_> = one_or_many(&statement["Resource"])
                .iter()
                .map(text)
                .collect();
            let mut suits = BTreeSet::new();
            for action in actions(&statement) {
                assert!(!action.contains('*'), "{}: {action}", step.name);
                let reach = reaches
                    .get(action.as_str())
                    .unwrap_or_else(|| panic!("{}: the table has no {action}", step.name));
                match reach {
                    Everything | EverythingBecause(_) => {
                        if let EverythingBecause(reason) = reach {
                            assert!(reason.contains(' '), "{action}: a reason is a sentence");
                        }
                        assert_eq!(resources, ["*"], "{}: {action}", step.name);
                        suits.insert("*".to_owned());
                    }
                    To(kinds) => {
                        for kind in *kinds {
                            let of_it: Vec<_> = resources
                                .iter()
                                .filter(|resource| resource.contains(kind) && *resource != "*")
                                .cloned()
                                .collect();
                            assert!(
                                !of_it.is_empty() || ONE_OR_THE_OTHER.contains(&action.as_str()),
                                "{}: {action} knows {kind}, and is allowed on {resources:?}",
                                step.name
                            );
                            suits.extend(of_it);
                        }
                    }
                }
            }
            for resource in &resources {
                assert!(
                    suits.contains(resource),
                    "{}: nothing of {:?} knows {resource}",
                    step.name,
                    actions(&statement)
                );
            }
        }
    }
}

#[test]
fn the_table_of_what_an_action_knows_has_no_more_than_is_granted() {
    let granted: BTreeSet<_> = functions()
        .flat_map(granted)
        .flat_map(|statement| actions(&statement))
        .collect();
    assert_eq!(
        reaches()
            .into_keys()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>(),
        granted
    );
    assert_eq!(reaches().len(), REACHES.len());
}

#[test]
fn what_exists_already_can_be_tagged_by_no_function() {
    for step in functions() {
        for statement in granted(step) {
            let condition = &statement["Condition"];
            for action in actions(&statement) {
                let expected = match action.as_str() {
                    "ecs:TagResource" => !condition["StringEquals"]["ecs:CreateAction"].is_null(),
                    "elasticloadbalancing:AddTags" => {
                        condition["StringEquals"]["elasticloadbalancing:CreateAction"]
                            == "CreateTargetGroup"
                    }
                    // App Mesh and Cloud Map know no such condition: only the copies' own, and only with our tag.
                    "appmesh:TagResource" => {
                        one_or_many(&statement["Resource"]).iter().all(|resource| {
                            let ends = ["/*-canary-*", "/*-baseline-*"];
                            ends.iter().any(|end| text(resource).ends_with(end))
                        })
                    }
                    "servicediscovery:TagResource" => {
                        condition
                            == &json!({ "StringLike": { "aws:RequestTag/serin:execution": "*" } })
                    }
                    _ => true,
                };
                assert!(expected, "{}: {statement}", step.name);
            }
        }
    }
}

#[test]
fn what_may_be_done_to_the_canarys_own_may_be_done_to_the_baselines() {
    let mut of_canaries = 0;
    for statement in functions().flat_map(granted) {
        let resources = one_or_many(&statement["Resource"]);
        let resources: Vec<_> = resources.iter().map(text).collect();
        for of_canary in resources.iter().filter(|name| name.contains("-canary-*")) {
            let of_baseline = of_canary.replace("-canary-*", "-baseline-*");
            assert!(resources.contains(&of_baseline), "{statement}");
            of_canaries += 1;
        }
    }
    assert!(of_canaries > 5);
}

#[test]
fn the_state_machines_may_call_their_functions_send_a_notice_and_write_logs_and_nothing_else() {
    for (name, machine) in resources_of("AWS::Serverless::StateMachine") {
        for statement in statements(&machine["Properties"]) {
            // One that depends on a parameter is the second of `!If`.
            let statement = match statement.get("!If") {
                Some(choice) => choice[1].clone(),
                None => statement,
            };
            for action in actions(&statement) {
                // Its functions; and the notice of a frozen deployment, on the one bus of the account that others listen to.
                let of_its_own =
                    ["lambda:InvokeFunction", "events:PutEvents"].contains(&action.as_str());
                let resource = &statement["Resource"];
                assert!(
                    of_its_own && *resource != json!("*")
                        || (action.starts_with("logs:") || action.starts_with("xray:"))
                            && *resource == json!("*"),
                    "{name}: {action} on {resource}"
                );
            }
        }
    }
}
