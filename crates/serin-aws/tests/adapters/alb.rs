use serin::ports::{DiscoveryError, Fleet, Removal, Settled, ShiftError, Side, TrafficRouter};
use serin::request::{RouterKind, RouterWish};
use serin::routing::AlbRecord;
use serin::{DeploymentId, ExecutionArn, Leftover, PortError, RouterRecord, Weight};
use serin_sim::world::{
    CLOSED_RULE, DEFAULT_RULE, NETWORK_RULE, Options, RULE, RouteKind, TARGET_GROUP,
};
use serin_sim::{Fault, FaultKind, Which, tuples_mut};

use crate::{Scene, account, described, percent, refusal, removed};

/// The second of two rules.
const SECOND_RULE: &str = "checkout-alb:443/20";

fn record(scene: &Scene) -> &AlbRecord {
    let RouterRecord::Alb(record) = &scene.deployment.router else {
        panic!("{:?}", scene.deployment.router)
    };
    record
}

/// The weights of a rule: `canary 50, checkout-tg 950`.
fn weights(scene: &Scene, path: &str) -> String {
    let weights = scene.account.look(|world| world.rule_weights(path));
    let canary = &record(scene).groups[0].canary_name;
    let mut weights: Vec<_> = weights
        .into_iter()
        .map(|(name, weight)| {
            let name = if name == *canary { "canary" } else { &name };
            format!("{name} {weight}")
        })
        .collect();
    weights.sort();
    weights.join(", ")
}

fn canary_arn(scene: &Scene) -> Option<String> {
    let name = &record(scene).groups[0].canary_name;
    scene
        .account
        .look(|world| world.target_group(name)?.target_group_arn)
}

/// How often a rule or a default action was written.
fn writes(scene: &Scene) -> usize {
    scene.account.count_calls("ModifyRule") + scene.account.count_calls("ModifyListener")
}

async fn discover(
    options: &Options,
    rules: Option<Vec<String>>,
) -> Result<AlbRecord, DiscoveryError> {
    let (_, aws) = account(options);
    let (service, definition) = described(&aws).await;
    let wish = rules.map(|rules| RouterWish {
        kind: RouterKind::Alb,
        proxy_container: None,
        routes: None,
        rules: Some(rules),
    });
    let id = DeploymentId::of(&ExecutionArn::new(crate::EXECUTION));
    let found = aws
        .router
        .discover(wish.as_ref(), &service, &definition, &id)
        .await?;
    let RouterRecord::Alb(record) = found else {
        panic!("{found:?}")
    };
    Ok(record)
}

/// Sets the weights of a rule's target groups, in their order.
fn set_weights(scene: &Scene, path: &str, weights: &[i32]) {
    scene.account.edit_rule_by_hand(path, |actions| {
        let tuples = tuples_mut(actions).unwrap();
        assert_eq!(tuples.len(), weights.len());
        for (tuple, weight) in tuples.iter_mut().zip(weights) {
            tuple.weight = Some(*weight);
        }
    });
}

/// A world with two rules and a default action, and a canary that is ready.
async fn two_rules() -> Scene {
    let scene = Scene::with(&Options {
        routes: vec![RouteKind::Http; 2],
        ..Options::alb()
    })
    .await;
    scene.created(2).await;
    scene
}

async fn shift(scene: &Scene, from: f64, to: f64) -> Result<(), ShiftError> {
    let weight = |weight| {
        if weight > 0.0 {
            percent(weight)
        } else {
            Weight::ZERO
        }
    };
    let router = &scene.aws.router;
    let shifted = router.shift(&scene.deployment, weight(from), weight(to));
    shifted.await.map(|_| ())
}

async fn settle(scene: &Scene, on: Side) -> Settled {
    let router = &scene.aws.router;
    router.settle(&scene.deployment, on).await.unwrap()
}

#[tokio::test]
async fn every_rule_and_default_action_to_the_service_is_found_with_its_weights() {
    let options = Options {
        routes: vec![RouteKind::Http; 3],
        target_groups: 2,
        other_weight: Some(5),
        forward_stickiness: Some(600),
        ..Options::alb()
    };
    let found = discover(&options, None).await.unwrap();
    let names: Vec<_> = found.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "rule 10 of listener HTTPS:443 of load balancer checkout-alb",
            "rule 11 of listener HTTPS:443 of load balancer checkout-alb",
            "rule 20 of listener HTTPS:443 of load balancer checkout-alb",
            "rule 21 of listener HTTPS:443 of load balancer checkout-alb",
            "rule 30 of listener HTTPS:443 of load balancer checkout-alb",
            "rule 31 of listener HTTPS:443 of load balancer checkout-alb",
            "the default action of listener HTTPS:8443 of load balancer checkout-alb",
        ]
    );
    assert!(
        found
            .rules
            .iter()
            .all(|rule| rule.groups.len() == 2 && rule.sticky_seconds == Some(600))
    );
    assert_eq!(found.groups.len(), 2);
    assert_eq!(found.groups[0].deregistration_delay_seconds, 30);
    assert_ne!(found.groups[0].canary_name, found.groups[1].canary_name);
}

#[tokio::test]
async fn wished_rules_narrow_and_unknown_ones_are_refused() {
    let all = discover(&Options::alb(), None).await.unwrap();
    let (rule, listener) = (
        all.rules[0].rule_arn.clone().unwrap(),
        all.rules[1].listener_arn.clone(),
    );
    for arn in [rule, listener] {
        let found = discover(&Options::alb(), Some(vec![arn])).await.unwrap();
        assert_eq!((found.rules.len(), found.left_out.len()), (1, 1));
    }
    let error = discover(&Options::alb(), Some(vec!["arn:none".into()])).await;
    assert!(
        matches!(&error, Err(DiscoveryError::Unsupported(sentence)) if sentence.contains("arn:none, which is no rule")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_throttled_discovery_is_throttled_and_nothing_else() {
    let (account, aws) = account(&Options::alb());
    let (service, definition) = described(&aws).await;
    for operation in [
        "DescribeTargetGroups",
        "DescribeTargetGroupAttributes",
        "DescribeTargetHealth",
        "DescribeListeners",
        "DescribeRules",
    ] {
        account.heal();
        account.inject(Fault {
            operation,
            which: Which::Always,
            kind: FaultKind::Throttled,
        });
        let id = DeploymentId::of(&ExecutionArn::new(crate::EXECUTION));
        let found = aws.router.discover(None, &service, &definition, &id).await;
        assert!(
            matches!(
                found,
                Err(DiscoveryError::Port(PortError::Throttled { .. }))
            ),
            "{operation}: {found:?}"
        );
    }
}

#[tokio::test]
async fn what_the_canary_needs_is_made_once_and_can_be_reached() {
    let scene = two_rules().await;
    let before = scene.account.snapshot();
    let calls = writes(&scene);
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    let attachment = router.prepare(deployment).await.unwrap();
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
    assert_eq!((calls, writes(&scene)), (3, 3));
    assert_eq!(scene.account.count_calls("CreateTargetGroup"), 1);
    assert_eq!(router.healthy_targets(deployment, &attachment).await, Ok(2));
    let stable = deployment.router.stable_attachment();
    assert_eq!(router.healthy_targets(deployment, &stable).await, Ok(4));
    for path in [RULE, SECOND_RULE, DEFAULT_RULE] {
        assert_eq!(weights(&scene, path), "canary 0, checkout-tg 1");
    }
}

#[tokio::test]
async fn what_was_made_although_the_answer_was_lost_is_adopted_with_its_attributes() {
    for operation in [
        "CreateTargetGroup",
        "ModifyTargetGroupAttributes",
        "ModifyRule",
        "ModifyListener",
    ] {
        for kind in [FaultKind::AnswerLost, FaultKind::ServerError] {
            let scene = Scene::with(&Options::alb()).await;
            let (router, deployment) = (&scene.aws.router, &scene.deployment);
            scene.account.inject(Fault {
                operation,
                which: Which::Nth(1),
                kind,
            });
            let error = router.prepare(deployment).await.unwrap_err();
            assert!(
                matches!(error, ShiftError::Port(PortError::Unavailable { .. })),
                "{error:?}"
            );
            router.prepare(deployment).await.unwrap();
            scene.account.look(|world| {
                assert_eq!(world.target_groups().len(), 2, "{operation}");
                let canary = &record(&scene).groups[0].canary_name;
                assert_eq!(
                    world.target_group_attributes(canary),
                    world.target_group_attributes(TARGET_GROUP)
                );
            });
            assert_eq!(weights(&scene, RULE), "canary 0, checkout-tg 1");
        }
    }
}

#[tokio::test]
async fn a_strangers_target_group_of_the_same_name_is_left_alone() {
    let scene = Scene::with(&Options::alb()).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    let mut strangers = deployment.clone();
    strangers.execution = ExecutionArn::new("arn:aws:states:eu-west-1:1:execution:serin:other");
    router.prepare(&strangers).await.unwrap();
    settle(&scene, Side::Stable).await;
    let before = scene.account.snapshot();
    let made = router
        .prepare(deployment)
        .await
        .map_err(|error| match error {
            ShiftError::Port(error) => error,
            other => panic!("{other:?}"),
        });
    let sentence = refusal(made);
    assert!(
        sentence.contains("was not created by this deployment"),
        "{sentence}"
    );
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
    refusal(router.tear_down(deployment, Side::Canary).await);
    assert!(canary_arn(&scene).is_some(), "it is not deleted either");
}

#[tokio::test]
async fn traffic_moves_by_the_weights_alone_and_comes_back_exactly() {
    let options = Options {
        routes: vec![RouteKind::Http; 2],
        stable_weight: 7,
        ..Options::alb()
    };
    let scene = Scene::with(&options).await;
    let before = scene.account.snapshot();
    scene.created(4).await;
    shift(&scene, 0.0, 5.0).await.unwrap();
    assert_eq!(weights(&scene, RULE), "canary 50, checkout-tg 950");
    shift(&scene, 5.0, 100.0).await.unwrap();
    assert_eq!(weights(&scene, DEFAULT_RULE), "canary 999, checkout-tg 0");
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    router.verify(deployment, percent(100.0)).await.unwrap();
    let settled = settle(&scene, Side::Stable).await;
    assert_eq!((settled.wrote, settled.edited), (true, vec![]));
    assert_eq!(weights(&scene, SECOND_RULE), "canary 0, checkout-tg 7");
    let written = writes(&scene);
    assert!(!settle(&scene, Side::Stable).await.wrote);
    assert_eq!((written, writes(&scene)), (12, 12));
    removed(&scene.account, async || {
        scene
            .aws
            .fleet
            .remove_service(deployment, Side::Canary)
            .await
    })
    .await;
    removed(&scene.account, async || {
        router.tear_down(deployment, Side::Canary).await
    })
    .await;
    scene
        .aws
        .fleet
        .retire_definition(deployment, Side::Canary)
        .await
        .unwrap();
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
    assert_eq!(
        router.traces(deployment, Side::Canary).await.certain(),
        Ok(vec![])
    );
}

#[tokio::test]
async fn a_shift_that_was_done_is_not_done_again_and_one_that_was_half_done_goes_on() {
    let scene = two_rules().await;
    let before = writes(&scene);
    scene.account.inject(Fault {
        operation: "ModifyRule",
        which: Which::Nth(2),
        kind: FaultKind::AnswerLost,
    });
    let error = shift(&scene, 0.0, 5.0).await.unwrap_err();
    assert!(
        matches!(error, ShiftError::Port(PortError::Unavailable { .. })),
        "{error:?}"
    );
    shift(&scene, 0.0, 5.0).await.unwrap();
    assert_eq!(writes(&scene) - before, 3);
    for path in [RULE, SECOND_RULE, DEFAULT_RULE] {
        assert_eq!(weights(&scene, path), "canary 50, checkout-tg 950");
    }
}

#[tokio::test]
async fn a_write_that_does_not_show_is_not_taken_for_done() {
    let scene = Scene::with(&Options::alb()).await;
    scene.created(1).await;
    scene.account.inject(Fault {
        operation: "DescribeRules",
        which: Which::Nth(2),
        kind: FaultKind::Refused("RuleNotFound", "not yet"),
    });
    let error = shift(&scene, 0.0, 5.0).await.unwrap_err();
    assert!(
        matches!(&error, ShiftError::NotReadBack(sentence) if sentence.ends_with("then showed nothing")),
        "{error:?}"
    );
    shift(&scene, 0.0, 5.0).await.unwrap();
}

#[tokio::test]
async fn when_one_of_the_rules_was_changed_by_others_none_is_written() {
    let scene = two_rules().await;
    shift(&scene, 0.0, 5.0).await.unwrap();
    // The last one that is read, so that a router that writes as it reads would have written the others.
    for path in [SECOND_RULE, DEFAULT_RULE] {
        let before = scene
            .account
            .look(|world| world.rule(path).actions.unwrap());
        set_weights(&scene, path, &[600, 50]);
        let written = writes(&scene);
        let error = shift(&scene, 5.0, 25.0).await.unwrap_err();
        assert!(matches!(error, ShiftError::ChangedByOthers(_)), "{error:?}");
        assert!(
            error.to_string().contains(
                "it last had stable 950, canary 50, and now it has stable 600, canary 50; nothing but the weights differs"
            ),
            "{error}"
        );
        assert_eq!(writes(&scene), written);
        let verified = scene
            .aws
            .router
            .verify(&scene.deployment, percent(5.0))
            .await;
        assert!(matches!(verified, Err(ShiftError::ChangedByOthers(_))));
        scene
            .account
            .edit_rule_by_hand(path, |actions| *actions = before);
    }
    shift(&scene, 5.0, 25.0).await.unwrap();
}

#[tokio::test]
async fn an_edit_of_another_action_alone_is_noticed_and_stays() {
    let scene = Scene::with(&Options::alb()).await;
    scene.created(1).await;
    shift(&scene, 0.0, 5.0).await.unwrap();
    scene.account.edit_rule_by_hand(RULE, |actions| {
        let oidc = actions[0].authenticate_oidc_config.as_mut().unwrap();
        oidc.session_timeout = Some(60);
    });
    let error = shift(&scene, 5.0, 25.0).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("its conditions, its other actions or its stickiness differ too"),
        "{error}"
    );
    let settled = settle(&scene, Side::Stable).await;
    assert!(settled.edited[0].contains("that stays"), "{settled:?}");
    assert_eq!(weights(&scene, RULE), "canary 0, checkout-tg 1");
    let rule = scene.account.look(|world| world.rule(RULE));
    let oidc = rule.actions()[0].authenticate_oidc_config().unwrap();
    assert_eq!(oidc.session_timeout(), Some(60));
}

#[tokio::test]
async fn what_others_made_of_the_weights_is_kept_when_the_traffic_is_settled() {
    for (on, left) in [
        (Side::Stable, "canary 0, checkout-tg 650, other-tg 77"),
        (Side::Canary, "canary 650, checkout-tg 0, other-tg 77"),
    ] {
        let scene = Scene::with(&Options {
            other_weight: Some(1),
            ..Options::alb()
        })
        .await;
        scene.created(4).await;
        shift(&scene, 0.0, 50.0).await.unwrap();
        set_weights(&scene, RULE, &[600, 77, 50]);
        let settled = settle(&scene, on).await;
        assert_eq!(settled.edited.len(), 1, "{settled:?}");
        assert!(
            settled.edited[0].contains("and the rest stays"),
            "{settled:?}"
        );
        assert_eq!(weights(&scene, RULE), left);
        assert!(
            !settle(&scene, on).await.wrote,
            "the second time it is done"
        );
    }
}

#[tokio::test]
async fn a_canary_that_somebody_took_out_of_a_rule_stays_out_or_comes_back_to_carry_it() {
    let take_out = |scene: &Scene| {
        let canary = canary_arn(scene);
        scene.account.edit_rule_by_hand(RULE, |actions| {
            let tuples = tuples_mut(actions).unwrap();
            tuples.retain(|tuple| tuple.target_group_arn != canary);
            tuples[0].weight = Some(1);
        });
    };
    let scene = Scene::with(&Options::alb()).await;
    scene.created(4).await;
    shift(&scene, 0.0, 50.0).await.unwrap();
    take_out(&scene);
    let error = shift(&scene, 50.0, 100.0).await.unwrap_err();
    assert!(matches!(error, ShiftError::ChangedByOthers(_)), "{error:?}");
    settle(&scene, Side::Stable).await;
    assert_eq!(weights(&scene, RULE), "checkout-tg 1");
    assert_eq!(weights(&scene, DEFAULT_RULE), "canary 0, checkout-tg 1");

    let scene = Scene::with(&Options::alb()).await;
    scene.created(4).await;
    shift(&scene, 0.0, 100.0).await.unwrap();
    take_out(&scene);
    settle(&scene, Side::Canary).await;
    assert_eq!(weights(&scene, RULE), "canary 1, checkout-tg 0");
}

#[tokio::test]
async fn a_rule_that_does_something_else_now_is_told_and_left_alone() {
    let scene = two_rules().await;
    shift(&scene, 0.0, 50.0).await.unwrap();
    let closed = scene.account.look(|world| world.rule(CLOSED_RULE));
    let closed = closed.actions.unwrap();
    scene.account.edit_rule_by_hand(RULE, |actions| {
        *actions = closed;
    });
    let before = scene.account.look(|world| world.rule(RULE));
    let error = shift(&scene, 50.0, 100.0).await.unwrap_err();
    assert!(
        error.to_string().contains("somebody else removed rule 10"),
        "{error}"
    );
    let settled = settle(&scene, Side::Stable).await;
    assert!(
        settled.edited[0].contains("lets it do something else than forward; that stays"),
        "{settled:?}"
    );
    assert_eq!(scene.account.look(|world| world.rule(RULE)), before);
    assert_eq!(weights(&scene, SECOND_RULE), "canary 0, checkout-tg 1");
}

#[tokio::test]
async fn a_rule_that_cannot_be_written_keeps_no_other_from_going_back() {
    let scene = two_rules().await;
    shift(&scene, 0.0, 5.0).await.unwrap();
    scene.account.inject(Fault {
        operation: "ModifyRule",
        which: Which::Nth(1),
        kind: FaultKind::Throttled,
    });
    let error = scene
        .aws
        .router
        .settle(&scene.deployment, Side::Stable)
        .await;
    assert!(
        matches!(error, Err(PortError::Throttled { .. })),
        "{error:?}"
    );
    assert_eq!(weights(&scene, RULE), "canary 50, checkout-tg 950");
    for path in [SECOND_RULE, DEFAULT_RULE] {
        assert_eq!(weights(&scene, path), "canary 0, checkout-tg 1");
    }
    assert!(settle(&scene, Side::Stable).await.wrote);
    assert_eq!(weights(&scene, RULE), "canary 0, checkout-tg 1");
}

#[tokio::test]
async fn a_target_group_leaves_no_rule_while_its_targets_drain() {
    let scene = Scene::with(&Options::alb()).await;
    scene.created(1).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    let service = deployment.canary.service.as_str();
    scene
        .account
        .scale_by_hand(deployment.cluster().as_str(), service, 0);
    scene.wait(10);
    let written = writes(&scene);
    let removal = router.tear_down(deployment, Side::Canary).await.unwrap();
    assert!(
        matches!(&removal, Removal::Going(what) if what.contains("to drain")),
        "{removal:?}"
    );
    assert_eq!(writes(&scene), written);
}

#[tokio::test]
async fn a_target_group_that_somebody_elses_rule_names_is_waited_for_and_told() {
    let scene = Scene::with(&Options::alb()).await;
    scene.created(1).await;
    let canary = canary_arn(&scene);
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    // The default action of the first listener was a fixed response.
    let forward = scene
        .account
        .look(|world| world.rule(DEFAULT_RULE).actions.unwrap());
    let before = scene
        .account
        .look(|world| world.rule(CLOSED_RULE).actions.unwrap());
    scene.account.edit_rule_by_hand(CLOSED_RULE, |actions| {
        *actions = forward;
        let tuples = tuples_mut(actions).unwrap();
        tuples.retain(|tuple| tuple.target_group_arn == canary);
        tuples[0].weight = Some(1);
    });
    removed(&scene.account, async || {
        scene
            .aws
            .fleet
            .remove_service(deployment, Side::Canary)
            .await
    })
    .await;
    scene.wait(60);
    let removal = router.tear_down(deployment, Side::Canary).await.unwrap();
    assert!(
        matches!(&removal, Removal::Going(what) if what.contains("let go of target group")),
        "{removal:?}"
    );
    assert_eq!(
        weights(&scene, CLOSED_RULE),
        "canary 1",
        "it is not ours to change"
    );
    let traces = router
        .traces(deployment, Side::Canary)
        .await
        .certain()
        .unwrap();
    assert_eq!(traces.len(), 1, "{traces:?}");
    assert!(
        traces[0]
            .command
            .starts_with("aws elbv2 delete-target-group")
    );
    scene
        .account
        .edit_rule_by_hand(CLOSED_RULE, |actions| *actions = before);
    removed(&scene.account, async || {
        router.tear_down(deployment, Side::Canary).await
    })
    .await;
    assert_eq!(canary_arn(&scene), None);
}

#[tokio::test]
async fn a_side_that_got_traffic_again_is_not_taken_out_of_its_rule() {
    let scene = Scene::with(&Options::alb()).await;
    scene.created(1).await;
    shift(&scene, 0.0, 5.0).await.unwrap();
    let torn = scene
        .aws
        .router
        .tear_down(&scene.deployment, Side::Canary)
        .await;
    assert!(
        matches!(&torn, Err(PortError::Unavailable { message, .. }) if message.contains("got traffic for the canary again")),
        "{torn:?}"
    );
    assert_eq!(weights(&scene, RULE), "canary 50, checkout-tg 950");
}

#[tokio::test]
async fn after_a_replacement_stables_target_group_goes() {
    let scene = two_rules().await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    shift(&scene, 0.0, 100.0).await.unwrap();
    settle(&scene, Side::Canary).await;
    assert_eq!(weights(&scene, RULE), "canary 1, checkout-tg 0");
    removed(&scene.account, async || {
        scene
            .aws
            .fleet
            .remove_service(deployment, Side::Stable)
            .await
    })
    .await;
    removed(&scene.account, async || {
        router.tear_down(deployment, Side::Stable).await
    })
    .await;
    for path in [RULE, SECOND_RULE, DEFAULT_RULE] {
        assert_eq!(weights(&scene, path), "canary 1");
    }
    assert_eq!(
        scene.account.look(|world| world.target_group(TARGET_GROUP)),
        None
    );
    assert_eq!(
        router.tear_down(deployment, Side::Stable).await,
        Ok(Removal::Gone)
    );
}

/// The ARN, the kind of command and the target groups that a command gives back.
fn parsed(left: &Leftover) -> (String, serde_json::Value) {
    let words: Vec<_> = left.command.split_whitespace().collect();
    assert_eq!(words[..2], ["aws", "elbv2"]);
    let read = match (words[2], words[3]) {
        ("modify-rule", "--rule-arn") => format!("describe-rules --rule-arns {}", words[4]),
        ("modify-listener", "--listener-arn") => {
            format!("describe-listeners --listener-arns {}", words[4])
        }
        other => panic!("{other:?}"),
    };
    assert!(left.command.contains(&read), "{}", left.command);
    assert_eq!(left.command.matches('\'').count(), 4, "{}", left.command);
    let (_, list) = left
        .command
        .split_once(".ForwardConfig.TargetGroups = ")
        .unwrap();
    let (list, _) = list.split_once(" elif").unwrap();
    (words[4].to_owned(), serde_json::from_str(list).unwrap())
}

#[tokio::test]
async fn the_commands_give_every_rule_its_original_target_groups() {
    let options = Options {
        stable_weight: 7,
        other_weight: Some(13),
        ..Options::alb()
    };
    let scene = Scene::with(&options).await;
    let group = |name: &str| {
        let group = scene
            .account
            .look(|world| world.target_group(name))
            .unwrap();
        group.target_group_arn.unwrap()
    };
    let expected = serde_json::json!([
        { "TargetGroupArn": group(TARGET_GROUP), "Weight": 7 },
        { "TargetGroupArn": group("other-tg"), "Weight": 13 },
    ]);
    let rule = scene
        .account
        .look(|world| world.rule(RULE).rule_arn.unwrap());
    let listener = record(&scene).rules[1].listener_arn.clone();
    let commands = scene.aws.router.possible_traces(&scene.deployment);
    let parsed: Vec<_> = commands[..2].iter().map(parsed).collect();
    assert_eq!(parsed, [(rule, expected.clone()), (listener, expected)]);
    assert!(
        commands[2].arn.ends_with("/*") && commands[2].command.contains("--names checkout-"),
        "{:?}",
        commands[2]
    );
}

#[tokio::test]
async fn a_network_load_balancers_listener_is_shifted_and_restored() {
    let scene = Scene::with(&Options::nlb()).await;
    let before = scene.account.snapshot();
    scene.created(4).await;
    shift(&scene, 0.0, 5.0).await.unwrap();
    assert_eq!(weights(&scene, NETWORK_RULE), "canary 50, checkout-tg 950");
    assert_eq!(scene.account.count_calls("DescribeRules"), 0);
    settle(&scene, Side::Stable).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    removed(&scene.account, async || {
        scene
            .aws
            .fleet
            .remove_service(deployment, Side::Canary)
            .await
    })
    .await;
    removed(&scene.account, async || {
        router.tear_down(deployment, Side::Canary).await
    })
    .await;
    scene
        .aws
        .fleet
        .retire_definition(deployment, Side::Canary)
        .await
        .unwrap();
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
}
