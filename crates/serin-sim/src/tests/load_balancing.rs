use aws_sdk_ecs::types::{DeploymentRolloutState, DesiredStatus};
use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ForwardActionConfig, Rule, Tag, TargetGroupAttribute,
    TargetGroupStickinessConfig, TargetGroupTuple, TargetHealthStateEnum, TargetTypeEnum,
};
use serin_aws::Clients;

use super::{account_with, group_arn};
use crate::world::{self, Options};
use crate::{Account, Fault, FaultKind, Which, World, tuples, tuples_mut};

fn alb() -> (Account, Clients) {
    let account = account_with(&Options::alb());
    let clients = account.clients();
    (account, clients)
}

fn tuple(arn: &str, weight: i32) -> TargetGroupTuple {
    TargetGroupTuple::builder()
        .target_group_arn(arn)
        .weight(weight)
        .build()
}

fn forward(tuples: &[TargetGroupTuple]) -> Action {
    Action::builder()
        .r#type(ActionTypeEnum::Forward)
        .forward_config(
            ForwardActionConfig::builder()
                .set_target_groups(Some(tuples.to_vec()))
                .build(),
        )
        .build()
}

fn rule(account: &Account, path: &str) -> Rule {
    account.look(|world| world.rule(path))
}

/// Makes an exact copy of stable's target group with another name; gives its ARN.
async fn copy(clients: &Clients, name: &str) -> String {
    let output = copied(clients, name).send().await.unwrap();
    output.target_groups()[0].target_group_arn.clone().unwrap()
}

fn copied(
    clients: &Clients,
    name: &str,
) -> aws_sdk_elasticloadbalancingv2::operation::create_target_group::builders::CreateTargetGroupFluentBuilder{
    clients
        .load_balancing
        .create_target_group()
        .name(name)
        .protocol("HTTP".into())
        .port(8080)
        .vpc_id(world::VPC)
        .target_type(TargetTypeEnum::Ip)
        .health_check_path("/health")
        .health_check_interval_seconds(5)
        .health_check_timeout_seconds(2)
        .healthy_threshold_count(2)
        .unhealthy_threshold_count(2)
}

/// Writes the actions of a rule as they were read, with this change.
async fn change(
    account: &Account,
    clients: &Clients,
    path: &str,
    edit: impl FnOnce(&mut Vec<Action>),
) -> Result<(), String> {
    let rule = rule(account, path);
    let mut actions = rule.actions().to_vec();
    for action in &mut actions {
        if let Some(config) = &mut action.authenticate_oidc_config {
            config.use_existing_client_secret = Some(true);
        }
        if action.forward_config.is_some() {
            action.target_group_arn = None;
        }
    }
    edit(&mut actions);
    let call = clients
        .load_balancing
        .modify_rule()
        .rule_arn(rule.rule_arn().unwrap())
        .set_actions(Some(actions));
    match call.send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.code().unwrap_or("none").to_owned()),
    }
}

/// Puts another target group into a rule.
async fn put(account: &Account, clients: &Clients, path: &str, arn: &str, weight: i32) {
    change(account, clients, path, |actions| {
        tuples_mut(actions).unwrap().push(tuple(arn, weight));
    })
    .await
    .unwrap();
}

async fn states(clients: &Clients, arn: &str) -> Vec<TargetHealthStateEnum> {
    let output = clients
        .load_balancing
        .describe_target_health()
        .target_group_arn(arn)
        .send()
        .await
        .unwrap();
    output
        .target_health_descriptions()
        .iter()
        .map(|target| target.target_health().unwrap().state().unwrap().clone())
        .collect()
}

#[tokio::test]
async fn errors_travel_in_the_query_protocol_and_come_out_typed() {
    let (account, clients) = alb();
    let missing = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/no/0";
    let ask = || {
        clients
            .load_balancing
            .describe_target_groups()
            .target_group_arns(missing)
            .send()
    };
    let error = ask().await.unwrap_err().into_service_error();
    assert!(error.is_target_group_not_found_exception(), "{error:?}");
    assert_eq!(error.code(), Some("TargetGroupNotFound"));
    assert!(error.message().unwrap().contains(missing), "{error:?}");
    for (kind, code) in [
        (FaultKind::Throttled, "Throttling"),
        (FaultKind::Denied, "AccessDenied"),
        (FaultKind::ServerError, "InternalFailure"),
        (FaultKind::Refused("Odd<Code>", "a < b & c"), "Odd<Code>"),
    ] {
        account.heal();
        account.inject(Fault {
            operation: "DescribeTargetGroups",
            which: Which::Always,
            kind,
        });
        let error = ask().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some(code));
    }
}

#[tokio::test]
async fn one_target_group_is_shown_in_both_forms_and_several_in_one() {
    let (account, clients) = alb();
    let shown = rule(&account, world::RULE).actions()[1].clone();
    let stable = group_arn(&account, world::TARGET_GROUP);
    assert_eq!(shown.target_group_arn(), Some(stable.as_str()));
    let config = shown.forward_config().unwrap();
    assert_eq!(config.target_groups(), [tuple(&stable, 1)]);
    let stickiness = config.target_group_stickiness_config().unwrap();
    assert_eq!(stickiness.enabled(), Some(false));
    let canary = copy(&clients, "canary").await;
    put(&account, &clients, world::RULE, &canary, 0).await;
    let shown = rule(&account, world::RULE).actions()[1].clone();
    assert_eq!(shown.target_group_arn(), None);
    assert_eq!(tuples(&[shown]), [tuple(&stable, 1), tuple(&canary, 0)]);
    change(&account, &clients, world::RULE, |actions| {
        actions[1].forward_config = None;
        actions[1].target_group_arn = Some(stable.clone());
    })
    .await
    .unwrap();
    let shown = rule(&account, world::RULE).actions()[1].clone();
    assert_eq!(tuples(&[shown]), [tuple(&stable, 1)]);
}

#[tokio::test]
async fn given_actions_replace_the_list_and_what_is_not_given_stays() {
    let (account, clients) = alb();
    let before = rule(&account, world::RULE);
    change(&account, &clients, world::RULE, |actions| {
        actions.remove(0);
        actions[0].order = None;
    })
    .await
    .unwrap();
    let after = rule(&account, world::RULE);
    assert_eq!(after.actions().len(), 1);
    assert_eq!(
        (after.conditions(), after.transforms(), after.priority()),
        (before.conditions(), before.transforms(), before.priority())
    );
}

#[tokio::test]
async fn actions_that_elastic_load_balancing_does_not_allow_are_refused() {
    type Edit = Box<dyn FnOnce(&mut Vec<Action>)>;
    let account = account_with(&Options {
        other_weight: Some(1),
        ..Options::alb()
    });
    let clients = account.clients();
    let before = rule(&account, world::RULE);
    let unknown = group_arn(&account, world::TARGET_GROUP).replace("checkout-tg", "nobody");
    let stable = group_arn(&account, world::TARGET_GROUP);
    let with = |edit: fn(&mut Action)| -> Edit { Box::new(move |actions| edit(&mut actions[1])) };
    let mut four = Vec::new();
    for number in 0..4 {
        four.push(tuple(&copy(&clients, &format!("more-{number}")).await, 1));
    }
    let cases: Vec<(Edit, &str)> = vec![
        (
            Box::new(|actions| tuples_mut(actions).unwrap()[0].weight = Some(1000)),
            "ValidationError",
        ),
        (
            Box::new(|actions| tuples_mut(actions).unwrap()[0].weight = Some(-1)),
            "ValidationError",
        ),
        (
            Box::new(|actions| tuples_mut(actions).unwrap().clear()),
            "ValidationError",
        ),
        (
            Box::new(|actions| tuples_mut(actions).unwrap().extend(four)),
            "ValidationError",
        ),
        (
            Box::new(move |actions| tuples_mut(actions).unwrap().push(tuple(&unknown, 1))),
            "TargetGroupNotFound",
        ),
        (
            Box::new(move |actions| tuples_mut(actions).unwrap().push(tuple(&stable, 1))),
            "ValidationError",
        ),
        (
            Box::new(|actions| actions[1].target_group_arn = Some("arn".to_owned())),
            "ValidationError",
        ),
        (
            Box::new(|actions| actions.truncate(1)),
            "InvalidLoadBalancerAction",
        ),
        (
            Box::new(|actions| actions[0].order = Some(3)),
            "InvalidLoadBalancerAction",
        ),
        (
            Box::new(|actions| actions[0].order = Some(2)),
            "ValidationError",
        ),
        (Box::new(Vec::clear), "ValidationError"),
        (
            Box::new(|actions| {
                let config = actions[0].authenticate_oidc_config.as_mut().unwrap();
                config.use_existing_client_secret = None;
            }),
            "ValidationError",
        ),
        (
            with(|forward| {
                let config = forward.forward_config.as_mut().unwrap();
                let sticky = TargetGroupStickinessConfig::builder().enabled(true).build();
                config.target_group_stickiness_config = Some(sticky);
            }),
            "ValidationError",
        ),
    ];
    for (number, (edit, code)) in cases.into_iter().enumerate() {
        let answer = change(&account, &clients, world::RULE, edit).await;
        assert_eq!(answer, Err(code.to_owned()), "case {number}");
    }
    assert_eq!(rule(&account, world::RULE), before);
}

#[tokio::test]
async fn a_secret_is_never_shown_and_may_be_kept() {
    let (account, clients) = alb();
    let shown = rule(&account, world::RULE).actions()[0]
        .authenticate_oidc_config()
        .unwrap()
        .clone();
    assert_eq!(
        (shown.client_secret(), shown.use_existing_client_secret()),
        (None, None)
    );
    change(&account, &clients, world::RULE, |_| {})
        .await
        .unwrap();
    assert_eq!(
        rule(&account, world::RULE).actions()[0].authenticate_oidc_config(),
        Some(&shown)
    );
    let answer = change(&account, &clients, world::RULE, |actions| {
        let config = actions[0].authenticate_oidc_config.as_mut().unwrap();
        config.client_id = Some("somebody else".to_owned());
    });
    assert_eq!(answer.await, Err("ValidationError".to_owned()));
}

#[tokio::test]
async fn a_default_rule_is_changed_through_its_listener_only() {
    let (account, clients) = alb();
    let default = rule(&account, world::DEFAULT_RULE);
    assert_eq!(
        (default.priority(), default.is_default()),
        (Some("default"), Some(true))
    );
    let answer = change(&account, &clients, world::DEFAULT_RULE, |_| {}).await;
    assert_eq!(answer, Err("OperationNotPermitted".to_owned()));
    let canary = copy(&clients, "canary").await;
    let stable = group_arn(&account, world::TARGET_GROUP);
    let balancer = account.look(|world| world.target_group(world::TARGET_GROUP));
    let balancer = balancer.unwrap().load_balancer_arns()[0].clone();
    let listeners = clients
        .load_balancing
        .describe_listeners()
        .load_balancer_arn(balancer)
        .send()
        .await
        .unwrap();
    let listener = listeners.listeners()[1].listener_arn().unwrap().to_owned();
    let modify = |weight| {
        clients
            .load_balancing
            .modify_listener()
            .listener_arn(&listener)
            .default_actions(forward(&[tuple(&stable, 10), tuple(&canary, weight)]))
            .send()
    };
    modify(5).await.unwrap();
    let weights = account.look(|world| world.rule_weights(world::DEFAULT_RULE));
    assert_eq!(weights[world::TARGET_GROUP], 10);
    assert_eq!(weights["canary"], 5);
    let error = modify(1000).await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("ValidationError"));
    let error = clients
        .load_balancing
        .modify_listener()
        .listener_arn("arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/no")
        .default_actions(forward(&[tuple(&stable, 1)]))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_listener_not_found_exception(), "{error:?}");
}

#[tokio::test]
async fn rules_are_described_by_listener_or_by_arn_page_by_page() {
    let account = account_with(&Options {
        routes: vec![crate::world::RouteKind::Http; 3],
        ..Options::alb()
    });
    let clients = account.clients();
    let first = rule(&account, world::RULE);
    let listener = first
        .rule_arn()
        .unwrap()
        .replace("listener-rule/", "listener/");
    let listener = listener.rsplit_once('/').unwrap().0;
    let mut marker = None;
    let mut priorities = Vec::new();
    loop {
        let page = clients
            .load_balancing
            .describe_rules()
            .listener_arn(listener)
            .set_marker(marker)
            .send()
            .await
            .unwrap();
        assert!(page.rules().len() <= 2);
        priorities.extend(
            page.rules()
                .iter()
                .map(|rule| rule.priority().unwrap().to_owned()),
        );
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(priorities, ["10", "20", "30", "default"]);
    let one = clients
        .load_balancing
        .describe_rules()
        .rule_arns(first.rule_arn().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(one.rules(), [first]);
    let ask = clients.load_balancing.describe_rules();
    let error = ask.rule_arns("arn:aws:no").send().await.unwrap_err();
    assert!(error.into_service_error().is_rule_not_found_exception());
    let ask = clients.load_balancing.describe_rules();
    let error = ask.send().await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("ValidationError"));
}

#[tokio::test]
async fn a_network_load_balancer_has_listeners_but_no_rules() {
    let account = account_with(&Options::nlb());
    let clients = account.clients();
    assert_eq!(
        account.look(|world| world.healthy_targets(world::TARGET_GROUP)),
        4
    );
    let group = account.look(|world| world.target_group(world::TARGET_GROUP));
    let listeners = clients
        .load_balancing
        .describe_listeners()
        .load_balancer_arn(&group.unwrap().load_balancer_arns()[0])
        .send()
        .await
        .unwrap();
    let error = clients
        .load_balancing
        .describe_rules()
        .listener_arn(listeners.listeners()[0].listener_arn().unwrap())
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.code(), Some("UnsupportedProtocol"));
    let before = account.look(World::lost_requests);
    account.clock().advance(60);
    assert!((account.look(World::lost_requests) - before).abs() < 1e-9);
}

#[tokio::test]
async fn a_name_has_its_form_and_belongs_to_one_target_group() {
    let (account, clients) = alb();
    for bad in [
        "",
        "-canary",
        "canary-",
        "ca_nary",
        "a23456789-b23456789-c23456789-d23",
    ] {
        let error = copied(&clients, bad)
            .send()
            .await
            .unwrap_err()
            .into_service_error();
        assert_eq!(error.code(), Some("ValidationError"), "{bad:?}");
    }
    let first = copy(&clients, "a23456789-b23456789-c23456789-d2").await;
    assert_eq!(
        copy(&clients, "a23456789-b23456789-c23456789-d2").await,
        first
    );
    let error = copied(&clients, "a23456789-b23456789-c23456789-d2")
        .port(9090)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(
        error.is_duplicate_target_group_name_exception(),
        "{error:?}"
    );
    assert_eq!(account.look(World::target_groups).len(), 2);
}

#[tokio::test]
async fn attributes_have_defaults_and_unknown_keys_are_refused() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    let has =
        |key: &str| account.look(|world| world.target_group_attributes("canary").get(key).cloned());
    assert_eq!(
        has("deregistration_delay.timeout_seconds").as_deref(),
        Some("300")
    );
    assert_eq!(has("stickiness.type").as_deref(), Some("lb_cookie"));
    let set = |key: &str, value: &str| {
        let attribute = TargetGroupAttribute::builder()
            .key(key)
            .value(value)
            .build();
        clients
            .load_balancing
            .modify_target_group_attributes()
            .target_group_arn(&arn)
            .attributes(attribute)
            .send()
    };
    set("slow_start.duration_seconds", "60").await.unwrap();
    assert_eq!(has("slow_start.duration_seconds").as_deref(), Some("60"));
    for (key, value) in [
        ("proxy_protocol_v2.enabled", "true"),
        ("slow_start.duration_seconds", "10"),
        ("deregistration_delay.timeout_seconds", "3601"),
        ("stickiness.enabled", "perhaps"),
    ] {
        let error = set(key, value).await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some("ValidationError"), "{key}");
    }
    let output = clients
        .load_balancing
        .describe_target_group_attributes()
        .target_group_arn(&arn)
        .send()
        .await
        .unwrap();
    assert_eq!(output.attributes().len(), 14);
}

#[tokio::test]
async fn a_target_group_in_a_rule_cannot_be_deleted_and_one_that_is_gone_can() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    put(&account, &clients, world::RULE, &arn, 0).await;
    let delete = || {
        clients
            .load_balancing
            .delete_target_group()
            .target_group_arn(&arn)
            .send()
    };
    let error = delete().await.unwrap_err().into_service_error();
    assert!(error.is_resource_in_use_exception(), "{error:?}");
    change(&account, &clients, world::RULE, |actions| {
        tuples_mut(actions).unwrap().truncate(1);
    })
    .await
    .unwrap();
    delete().await.unwrap();
    delete().await.unwrap();
    assert_eq!(account.look(World::target_groups), [world::TARGET_GROUP]);
}

#[tokio::test]
async fn tags_are_added_removed_and_described() {
    let (account, clients) = alb();
    let arn = group_arn(&account, world::TARGET_GROUP);
    let tag = Tag::builder().key("owner").value("serin").build();
    let add = clients.load_balancing.add_tags().resource_arns(&arn);
    add.tags(tag).send().await.unwrap();
    let remove = clients.load_balancing.remove_tags().resource_arns(&arn);
    remove.tag_keys("team").send().await.unwrap();
    let output = clients
        .load_balancing
        .describe_tags()
        .resource_arns(&arn)
        .send()
        .await
        .unwrap();
    let keys: Vec<&str> = output.tag_descriptions()[0]
        .tags()
        .iter()
        .map(|tag| tag.key().unwrap())
        .collect();
    assert_eq!(keys, ["Name", "owner"]);
    let many = vec![arn; 21];
    let ask = clients
        .load_balancing
        .describe_tags()
        .set_resource_arns(Some(many));
    assert_eq!(
        ask.send().await.unwrap_err().code(),
        Some("ValidationError")
    );
}

/// Creates an ECS service `canary` that runs an image as targets of a target group.
async fn canary_of(
    account: &Account,
    clients: &Clients,
    image: &str,
    group: &str,
) -> Result<(), String> {
    let stable = account
        .look(|world| world.service("prod", "checkout"))
        .unwrap();
    let definition = account.look(|world| world.task_definition("checkout").unwrap().0.clone());
    let mut containers = definition.container_definitions().to_vec();
    containers[0].image = Some(world::app_image(image));
    let registered = clients
        .ecs
        .register_task_definition()
        .family("canary")
        .set_container_definitions(Some(containers))
        .set_network_mode(definition.network_mode.clone())
        .send()
        .await
        .unwrap();
    let mut attached = stable.load_balancers()[0].clone();
    attached.target_group_arn = Some(group.to_owned());
    let call = clients
        .ecs
        .create_service()
        .cluster("prod")
        .service_name("canary")
        .task_definition(
            registered
                .task_definition()
                .unwrap()
                .task_definition_arn()
                .unwrap(),
        )
        .desired_count(1)
        .set_network_configuration(stable.network_configuration.clone())
        .load_balancers(attached)
        .health_check_grace_period_seconds(60);
    match call.send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(error
            .into_service_error()
            .message()
            .unwrap_or_default()
            .to_owned()),
    }
}

#[tokio::test]
async fn a_service_needs_a_target_group_that_is_in_a_rule() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    let refused = canary_of(&account, &clients, "2.0.0", &arn)
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        format!(
            "The target group with targetGroupArn {arn} does not have an associated load balancer."
        )
    );
    put(&account, &clients, world::RULE, &arn, 0).await;
    canary_of(&account, &clients, "2.0.0", &arn).await.unwrap();
}

async fn rollout(clients: &Clients) -> (i32, Option<DeploymentRolloutState>) {
    let output = clients
        .ecs
        .describe_services()
        .cluster("prod")
        .services("canary")
        .send()
        .await
        .unwrap();
    let service = &output.services()[0];
    let state = service.deployments().first();
    (
        service.running_count,
        state.and_then(|rollout| rollout.rollout_state().cloned()),
    )
}

#[tokio::test]
async fn a_target_is_initial_then_healthy_then_drains_while_its_task_runs() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    put(&account, &clients, world::RULE, &arn, 0).await;
    canary_of(&account, &clients, "2.0.0", &arn).await.unwrap();
    account.clock().advance(12);
    assert_eq!(
        states(&clients, &arn).await,
        [TargetHealthStateEnum::Initial]
    );
    assert_eq!(
        rollout(&clients).await,
        (1, Some(DeploymentRolloutState::InProgress))
    );
    account.clock().advance(10);
    assert_eq!(
        states(&clients, &arn).await,
        [TargetHealthStateEnum::Healthy]
    );
    assert_eq!(
        rollout(&clients).await,
        (1, Some(DeploymentRolloutState::Completed))
    );
    account.scale_by_hand("prod", "canary", 0);
    account.clock().advance(290);
    assert_eq!(
        states(&clients, &arn).await,
        [TargetHealthStateEnum::Draining]
    );
    assert_eq!(rollout(&clients).await.0, 1, "it runs while it drains");
    account.clock().advance(20);
    assert!(states(&clients, &arn).await.is_empty());
    assert_eq!(rollout(&clients).await.0, 0);
}

#[tokio::test]
async fn a_deleted_service_drains_its_targets_too() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    put(&account, &clients, world::RULE, &arn, 0).await;
    canary_of(&account, &clients, "2.0.0", &arn).await.unwrap();
    account.clock().advance(60);
    let delete = clients
        .ecs
        .delete_service()
        .cluster("prod")
        .service("canary");
    delete.force(true).send().await.unwrap();
    account.clock().advance(10);
    assert_eq!(
        states(&clients, &arn).await,
        [TargetHealthStateEnum::Draining]
    );
    let status = |world: &World| world.service("prod", "canary").and_then(|it| it.status);
    assert_eq!(account.look(status).as_deref(), Some("DRAINING"));
    account.clock().advance(310);
    assert_eq!(account.look(status), None);
}

#[tokio::test]
async fn the_targets_of_a_target_group_in_no_rule_are_unused() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    put(&account, &clients, world::RULE, &arn, 0).await;
    canary_of(&account, &clients, "2.0.0", &arn).await.unwrap();
    account.clock().advance(60);
    change(&account, &clients, world::RULE, |actions| {
        tuples_mut(actions).unwrap().truncate(1);
    })
    .await
    .unwrap();
    account.clock().advance(1);
    assert_eq!(
        states(&clients, &arn).await,
        [TargetHealthStateEnum::Unused]
    );
    account.scale_by_hand("prod", "canary", 0);
    account.clock().advance(10);
    assert_eq!(rollout(&clients).await.0, 0, "nothing drains");
}

#[tokio::test]
async fn a_task_that_fails_the_health_checks_is_stopped_after_the_grace_period() {
    let (account, clients) = alb();
    let arn = copy(&clients, "canary").await;
    put(&account, &clients, world::RULE, &arn, 0).await;
    canary_of(&account, &clients, "2.0.0-never-healthy", &arn)
        .await
        .unwrap();
    account.clock().advance(40);
    assert_eq!(
        states(&clients, &arn).await,
        [TargetHealthStateEnum::Unhealthy]
    );
    let stopped = || async {
        let list = clients
            .ecs
            .list_tasks()
            .cluster("prod")
            .service_name("canary")
            .desired_status(DesiredStatus::Stopped)
            .send()
            .await
            .unwrap();
        list.task_arns().to_vec()
    };
    assert!(stopped().await.is_empty());
    account.clock().advance(30);
    let tasks = stopped().await;
    let described = clients
        .ecs
        .describe_tasks()
        .cluster("prod")
        .set_tasks(Some(tasks));
    let described = described.send().await.unwrap();
    assert_eq!(
        described.tasks()[0].stopped_reason(),
        Some(format!("Task failed ELB health checks in (target-group {arn})").as_str())
    );
    let service = account
        .look(|world| world.service("prod", "canary"))
        .unwrap();
    assert!(service.deployments()[0].failed_tasks >= 1);
}

#[tokio::test]
async fn a_target_group_serves_one_load_balancer() {
    let (account, clients) = alb();
    let stable = group_arn(&account, world::TARGET_GROUP);
    let listener = account.change(|world| {
        let balancer = world
            .load_balancing
            .add_balancer("third-alb", true, world::VPC);
        let listener = aws_sdk_elasticloadbalancingv2::types::Listener::builder()
            .load_balancer_arn(balancer)
            .port(80)
            .protocol("HTTP".into())
            .default_actions(
                Action::builder()
                    .r#type(ActionTypeEnum::FixedResponse)
                    .fixed_response_config(
                        aws_sdk_elasticloadbalancingv2::types::FixedResponseActionConfig::builder()
                            .status_code("404")
                            .build(),
                    )
                    .build(),
            )
            .build();
        world.load_balancing.add_listener(listener)
    });
    let error = clients
        .load_balancing
        .modify_listener()
        .listener_arn(listener)
        .default_actions(forward(&[tuple(&stable, 1)]))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(
        error.is_target_group_association_limit_exception(),
        "{error:?}"
    );
}
