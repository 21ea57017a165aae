//! Each function may do what its step does and nothing else.
//!
//! The table below is the one place where a port's method meets the actions of AWS that its adapter needs. From there on
//! everything is compared: the ports, the operations that the adapters call, the methods that each step calls, and what the
//! template grants.

use std::collections::BTreeSet;

use serin::name::canary_name;
use serin::{DeploymentId, ExecutionArn};

use serin_driver::permissions::{SERVICES, actions, granted, granted_actions};
use serin_driver::template::one_or_many;

use super::{STEPS, Step, functions, product_sources, read};

/// To change whether a service is scaled in; Application Auto Scaling wants its caller to be allowed what it does by itself.
const SCALING: &[&str] = &[
    "ecs:DescribeServices",
    "ecs:UpdateService",
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:RegisterScalableTarget",
];

/// What the adapter of each port's method needs.
const NEEDS: &[(&str, &str, &[&str])] = &[
    (
        "fleet",
        "service",
        &[
            "ecs:DescribeServices",
            "application-autoscaling:DescribeScalableTargets",
        ],
    ),
    ("fleet", "hold_scale_in", SCALING),
    ("fleet", "release_scale_in", SCALING),
    ("fleet", "task_definition", &["ecs:DescribeTaskDefinition"]),
    ("fleet", "pin_image", &["ecr:DescribeImages"]),
    (
        "fleet",
        "ensure_canary_definition",
        &[
            "ecs:DescribeTaskDefinition",
            "ecs:RegisterTaskDefinition",
            "ecs:TagResource",
            "iam:PassRole",
        ],
    ),
    (
        "fleet",
        "ensure_canary_service",
        &[
            "ecs:DescribeServices",
            "ecs:CreateService",
            "ecs:TagResource",
            "iam:PassRole",
        ],
    ),
    ("fleet", "observe", &["ecs:DescribeServices"]),
    (
        "fleet",
        "stopped_tasks",
        &["ecs:ListTasks", "ecs:DescribeTasks"],
    ),
    ("fleet", "resize", &["ecs:UpdateService"]),
    (
        "fleet",
        "ensure_promoted_definition",
        &[
            "ecs:DescribeTaskDefinition",
            "ecs:RegisterTaskDefinition",
            "ecs:TagResource",
            "iam:PassRole",
        ],
    ),
    (
        "fleet",
        "update_stable",
        &["ecs:DescribeServices", "ecs:UpdateService", "iam:PassRole"],
    ),
    (
        "fleet",
        "remove_service",
        &[
            "ecs:DescribeServices",
            "ecs:UpdateService",
            "ecs:DeleteService",
        ],
    ),
    (
        "fleet",
        "retire_definition",
        &["ecs:DescribeTaskDefinition", "ecs:DeregisterTaskDefinition"],
    ),
    (
        "fleet",
        "retire_promoted_definition",
        &[
            "ecs:DescribeServices",
            "ecs:DescribeTaskDefinition",
            "ecs:DeregisterTaskDefinition",
        ],
    ),
    ("fleet", "possible_traces", &[]),
    (
        "fleet",
        "changes",
        &["ecs:DescribeServices", "ecs:DescribeTaskDefinition"],
    ),
    (
        "fleet",
        "traces",
        &[
            "ecs:DescribeServices",
            "ecs:DescribeTaskDefinition",
            "application-autoscaling:DescribeScalableTargets",
        ],
    ),
    (
        "router",
        "discover",
        &[
            "appmesh:DescribeVirtualNode",
            "appmesh:ListVirtualRouters",
            "appmesh:ListRoutes",
            "appmesh:DescribeRoute",
            "servicediscovery:GetService",
            "servicediscovery:GetNamespace",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
            "elasticloadbalancing:DescribeTargetHealth",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
        ],
    ),
    (
        "router",
        "prepare",
        &[
            "servicediscovery:GetService",
            "servicediscovery:ListServices",
            "servicediscovery:CreateService",
            "servicediscovery:TagResource",
            "appmesh:DescribeVirtualNode",
            "appmesh:ListTagsForResource",
            "appmesh:CreateVirtualNode",
            "appmesh:TagResource",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
            "elasticloadbalancing:DescribeTags",
            "elasticloadbalancing:CreateTargetGroup",
            "elasticloadbalancing:AddTags",
            "elasticloadbalancing:ModifyTargetGroupAttributes",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
            "cognito-idp:DescribeUserPoolClient",
            "elasticloadbalancing:ModifyRule",
            "elasticloadbalancing:ModifyListener",
        ],
    ),
    (
        "router",
        "healthy_targets",
        &[
            "servicediscovery:GetInstancesHealthStatus",
            "servicediscovery:GetService",
            "servicediscovery:ListInstances",
            "elasticloadbalancing:DescribeTargetHealth",
        ],
    ),
    (
        "router",
        "healthy_targets_of",
        &[
            "servicediscovery:ListServices",
            "servicediscovery:GetInstancesHealthStatus",
            "servicediscovery:GetService",
            "servicediscovery:ListInstances",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetHealth",
        ],
    ),
    (
        "router",
        "shift",
        &[
            "appmesh:DescribeRoute",
            "appmesh:UpdateRoute",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
            "cognito-idp:DescribeUserPoolClient",
            "elasticloadbalancing:ModifyRule",
            "elasticloadbalancing:ModifyListener",
        ],
    ),
    (
        "router",
        "verify",
        &[
            "appmesh:DescribeRoute",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
        ],
    ),
    (
        "router",
        "settle",
        &[
            "appmesh:DescribeRoute",
            "appmesh:UpdateRoute",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
            "cognito-idp:DescribeUserPoolClient",
            "elasticloadbalancing:ModifyRule",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:DescribeTargetGroups",
        ],
    ),
    (
        "router",
        "tear_down",
        &[
            "appmesh:DeleteVirtualNode",
            "servicediscovery:ListServices",
            "servicediscovery:DeleteService",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
            "cognito-idp:DescribeUserPoolClient",
            "elasticloadbalancing:ModifyRule",
            "elasticloadbalancing:ModifyListener",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTags",
            "elasticloadbalancing:DescribeTargetHealth",
            "elasticloadbalancing:DeleteTargetGroup",
        ],
    ),
    (
        "router",
        "traces",
        &[
            "appmesh:DescribeRoute",
            "appmesh:DescribeVirtualNode",
            "servicediscovery:ListServices",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeListeners",
            "elasticloadbalancing:DescribeTargetGroups",
        ],
    ),
    ("router", "possible_traces", &[]),
    ("signals", "measure", &["cloudwatch:GetMetricData"]),
    ("signals", "response_times", &["cloudwatch:GetMetricData"]),
    ("signals", "alarms", &["cloudwatch:DescribeAlarms"]),
    (
        "ledger",
        "lock",
        &["dynamodb:UpdateItem", "dynamodb:GetItem"],
    ),
    ("ledger", "unlock", &["dynamodb:UpdateItem"]),
    ("ledger", "record", &["dynamodb:PutItem"]),
    ("ledger", "find", &["dynamodb:GetItem"]),
    ("ledger", "phase", &["dynamodb:GetItem"]),
    (
        "ledger",
        "enter",
        &["dynamodb:UpdateItem", "dynamodb:GetItem"],
    ),
    ("ledger", "call_a_person", &["dynamodb:UpdateItem"]),
    ("ledger", "close", &["dynamodb:UpdateItem"]),
    ("ledger", "held", &["dynamodb:Scan"]),
    ("ledger", "reopen", &["dynamodb:UpdateItem"]),
    ("ledger", "keep_check", &["dynamodb:UpdateItem"]),
    ("ledger", "order", &["dynamodb:GetItem"]),
    ("ledger", "keep_notice", &["dynamodb:UpdateItem"]),
    ("ledger", "execution_status", &["states:DescribeExecution"]),
    ("ledger", "stop_execution", &["states:StopExecution"]),
    ("ledger", "turns", &["dynamodb:GetItem"]),
    ("ledger", "wait", &["dynamodb:UpdateItem"]),
    ("ledger", "leave", &["dynamodb:UpdateItem"]),
    (
        "ledger",
        "supersede",
        &["dynamodb:UpdateItem", "dynamodb:GetItem"],
    ),
    ("history", "recent", &["dynamodb:Query"]),
    ("history", "story", &["dynamodb:GetItem"]),
    ("history", "keep_request", &["dynamodb:UpdateItem"]),
    ("history", "keep_wish", &["dynamodb:UpdateItem"]),
    ("decisions", "keep_question", &["dynamodb:PutItem"]),
    ("decisions", "leave_order", &["dynamodb:PutItem"]),
    (
        "decisions",
        "answer",
        &["dynamodb:GetItem", "states:SendTaskSuccess"],
    ),
    ("decisions", "stop", &["states:StopExecution"]),
    ("decisions", "roll_back", &["states:StartExecution"]),
    ("recoveries", "start", &["states:StartExecution"]),
    ("notices", "tell", &["events:PutEvents"]),
    ("deliveries", "delivered", &["dynamodb:GetItem"]),
    ("deliveries", "keep_delivery", &["dynamodb:UpdateItem"]),
    ("deliveries", "open_thread", &["dynamodb:UpdateItem"]),
    ("deliveries", "leave_thread", &["dynamodb:UpdateItem"]),
    ("deliveries", "show_in_thread", &["dynamodb:UpdateItem"]),
    ("secret", "read", &["secretsmanager:GetSecretValue"]),
    ("topics", "publish", &["sns:Publish"]),
];

/// Needed beside the operation itself: tags on what is created, roles for the tasks, the user pool of a rule that is written.
const NO_OPERATIONS: [&str; 6] = [
    "cognito-idp:DescribeUserPoolClient",
    "elasticloadbalancing:AddTags",
    "ecs:TagResource",
    "appmesh:TagResource",
    "servicediscovery:TagResource",
    "iam:PassRole",
];

/// What a step's calls of the ports need, and what is called after each step of a deployment.
fn needed(step: &Step) -> BTreeSet<&'static str> {
    // Without white space, so that a call that is written over several lines is found.
    let mut sources = product_sources(&format!("functions/{}/src", step.name));
    if STEPS.iter().any(|tells| tells.name == step.name) {
        sources.extend(
            product_sources("crates/serin-aws/src")
                .into_iter()
                .filter(|(path, _)| path.ends_with("tell.rs")),
        );
    }
    let text: String = sources
        .iter()
        .flat_map(|(_, text)| text.split_whitespace())
        .collect();
    let called = NEEDS
        .iter()
        .filter(|(port, method, _)| text.contains(&format!("{port}.{method}(")));
    called
        .flat_map(|(_, _, actions)| actions.iter().copied())
        .collect()
}

#[test]
fn the_table_has_every_method_of_every_port() {
    let ports = read("crates/serin/src/ports.rs");
    let mut declared = BTreeSet::new();
    for (name, port) in [
        ("Fleet", "fleet"),
        ("TrafficRouter", "router"),
        ("HealthSignals", "signals"),
        ("Ledger", "ledger"),
        ("Recoveries", "recoveries"),
        ("Notices", "notices"),
        ("Deliveries", "deliveries"),
        ("ChannelSecret", "secret"),
        ("Topics", "topics"),
        ("History", "history"),
        ("Decisions", "decisions"),
    ] {
        let (_, body) = ports.split_once(&format!("pub trait {name} {{\n")).unwrap();
        let (body, _) = body.split_once("\n}\n").unwrap();
        for line in body
            .lines()
            .filter_map(|line| line.trim_start().split_once("fn "))
        {
            declared.insert((port, line.1.split('(').next().unwrap().to_owned()));
        }
    }
    let table: BTreeSet<_> = NEEDS
        .iter()
        .map(|(port, method, _)| (*port, (*method).to_owned()))
        .collect();
    assert_eq!(table, declared);
}

#[test]
fn the_table_has_every_operation_that_the_adapters_call() {
    let mut called = BTreeSet::new();
    for (_, product) in product_sources("crates/serin-aws/src") {
        for literal in product.split('"') {
            for (service, prefix) in SERVICES {
                let operation = literal
                    .strip_prefix(service)
                    .and_then(|rest| rest.strip_prefix(' '));
                let is_name = |name: &&str| {
                    name.starts_with(char::is_uppercase)
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
                };
                called.extend(
                    operation
                        .filter(is_name)
                        .map(|operation| format!("{prefix}:{operation}")),
                );
            }
        }
    }
    let table = NEEDS
        .iter()
        .flat_map(|(_, _, actions)| actions.iter().copied());
    assert_eq!(
        table
            .filter(|action| !NO_OPERATIONS.contains(action))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>(),
        called
    );
}

#[test]
fn every_function_may_do_what_its_step_does_and_nothing_else() {
    for step in functions() {
        let granted = granted_actions(step);
        let needed: BTreeSet<_> = needed(step).into_iter().map(str::to_owned).collect();
        assert_eq!(
            granted, needed,
            "{}: granted on the left, needed on the right",
            step.name
        );
    }
}

#[test]
fn what_the_canary_is_made_of_bears_its_name_and_nothing_else_may_be_made() {
    let id = DeploymentId::of(&ExecutionArn::new(
        "arn:aws:states:eu-west-1:1:execution:serin:one",
    ));
    assert!(
        ["checkout", &"x".repeat(300)]
            .iter()
            .all(|stable| canary_name(stable, &id, 255).contains("-canary-"))
    );
    let made = [
        (
            1,
            "ecs:CreateService",
            "${AWS::AccountId}:service/*/*-canary-*",
        ),
        (
            1,
            "appmesh:CreateVirtualNode",
            "mesh/*/virtualNode/*-canary-*",
        ),
        (
            1,
            "elasticloadbalancing:CreateTargetGroup",
            "targetgroup/*-canary-*/*",
        ),
        // The way forward changes no other service.
        (
            2,
            "ecs:UpdateService",
            "${AWS::AccountId}:service/*/*-canary-*",
        ),
    ];
    for (step, action, pattern) in made {
        let statement = granted(&STEPS[step])
            .into_iter()
            .find(|statement| actions(statement).contains(&action.to_owned()))
            .unwrap();
        let first = one_or_many(&statement["Resource"])[0]["!Sub"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(first.ends_with(pattern), "{action}: {first}");
    }
}

#[test]
fn the_rollback_may_create_nothing() {
    // A scalable target that is there gets its scaling in back; one that is not there, Serin does not register.
    let restores = "application-autoscaling:RegisterScalableTarget";
    let tells = "events:PutEvents";
    for action in granted_actions(&STEPS[5]) {
        let (_, operation) = action.split_once(':').unwrap();
        let makes = [
            "Create", "Register", "Put", "Run", "Start", "Add", "Tag", "Pass",
        ];
        assert!(
            action == restores
                || action == tells
                || !makes.iter().any(|verb| operation.starts_with(verb)),
            "{action}"
        );
    }
}

#[test]
fn roles_are_passed_to_the_tasks_of_ecs_only() {
    for step in functions() {
        for statement in granted(step)
            .iter()
            .filter(|statement| actions(statement).contains(&"iam:PassRole".to_owned()))
        {
            assert_eq!(actions(statement), ["iam:PassRole"], "{}", step.name);
            assert_eq!(
                statement["Condition"]["StringEquals"]["iam:PassedToService"],
                "ecs-tasks.amazonaws.com",
                "{}",
                step.name
            );
        }
    }
}
