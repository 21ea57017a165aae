use serin::ports::Fleet;
use serin::{PortError, Scaling};
use serin_sim::world::{Options, SCALABLE_TARGET};
use serin_sim::{Fault, FaultKind, SuspendedState, Which};

use crate::{Scene, all_traces, described};

async fn scaled() -> Scene {
    let mut scene = Scene::with(&Options {
        scaling: Some((2, 10)),
        ..Options::alb()
    })
    .await;
    let (service, _) = described(&scene.aws).await;
    scene.deployment.stable.scaling = service.scaling;
    scene
}

fn state(inwards: bool, outwards: bool, scheduled: bool) -> SuspendedState {
    SuspendedState::builder()
        .dynamic_scaling_in_suspended(inwards)
        .dynamic_scaling_out_suspended(outwards)
        .scheduled_scaling_suspended(scheduled)
        .build()
}

fn suspended(scene: &Scene) -> Option<SuspendedState> {
    let target = scene
        .account
        .look(|world| world.scalable_target(SCALABLE_TARGET).cloned());
    target.and_then(|target| target.suspended_state)
}

fn writes(scene: &Scene) -> usize {
    scene.account.count_calls("RegisterScalableTarget")
}

#[tokio::test]
async fn a_service_says_whether_and_how_far_it_is_scaled() {
    let scene = scaled().await;
    let expected = Scaling {
        max_tasks: 10,
        scale_in_suspended: false,
    };
    assert_eq!(scene.deployment.stable.scaling, Some(expected));
    let scene = Scene::with(&Options::alb()).await;
    let (service, _) = described(&scene.aws).await;
    assert_eq!(service.scaling, None);
}

#[tokio::test]
async fn scaling_in_is_held_once_and_released_once_and_nothing_else_is_changed() {
    for replaces in [false, true] {
        let scene = scaled().await;
        scene
            .account
            .settings(|settings| settings.suspended_state_replaces = replaces);
        scene
            .account
            .suspend_scaling_by_hand(SCALABLE_TARGET, state(false, true, true));
        let before = scene.account.snapshot();
        let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
        fleet.hold_scale_in(deployment).await.unwrap();
        fleet.hold_scale_in(deployment).await.unwrap();
        assert_eq!(suspended(&scene), Some(state(true, true, true)));
        assert_eq!(writes(&scene), 1);
        let traces = all_traces(fleet, deployment).await;
        assert_eq!(traces, [deployment.held_scale_in().unwrap()]);
        fleet.release_scale_in(deployment).await.unwrap();
        fleet.release_scale_in(deployment).await.unwrap();
        assert_eq!(writes(&scene), 2);
        assert_eq!(
            scene.account.differences_since(&before),
            Vec::<String>::new()
        );
        assert_eq!(all_traces(fleet, deployment).await, vec![]);
    }
}

#[tokio::test]
async fn what_a_person_had_suspended_before_is_neither_held_nor_released() {
    let mut scene = scaled().await;
    scene
        .account
        .suspend_scaling_by_hand(SCALABLE_TARGET, state(true, false, false));
    let (service, _) = described(&scene.aws).await;
    scene.deployment.stable.scaling = service.scaling;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    fleet.hold_scale_in(deployment).await.unwrap();
    fleet.release_scale_in(deployment).await.unwrap();
    assert_eq!(writes(&scene), 0);
    assert_eq!(suspended(&scene), Some(state(true, false, false)));
    assert_eq!(all_traces(fleet, deployment).await, vec![]);
}

#[tokio::test]
async fn a_service_that_nothing_scales_and_a_target_that_is_gone_are_let_be() {
    let scene = Scene::with(&Options::alb()).await;
    let fleet = &scene.aws.fleet;
    fleet.hold_scale_in(&scene.deployment).await.unwrap();
    assert_eq!(writes(&scene), 0);

    let scene = scaled().await;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    fleet.hold_scale_in(deployment).await.unwrap();
    scene.account.remove_scaling_by_hand(SCALABLE_TARGET);
    fleet.release_scale_in(deployment).await.unwrap();
    assert_eq!((writes(&scene), suspended(&scene)), (1, None));
    assert_eq!(all_traces(fleet, deployment).await, vec![]);
}

#[tokio::test]
async fn a_lost_answer_is_found_done_and_a_throttled_call_is_throttled() {
    let scene = scaled().await;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    scene.account.inject(Fault {
        operation: "RegisterScalableTarget",
        which: Which::Nth(1),
        kind: FaultKind::AnswerLost,
    });
    let error = fleet.hold_scale_in(deployment).await.unwrap_err();
    assert!(matches!(error, PortError::Unavailable { .. }), "{error:?}");
    fleet.hold_scale_in(deployment).await.unwrap();
    assert_eq!(writes(&scene), 1);
    for operation in ["DescribeScalableTargets", "RegisterScalableTarget"] {
        scene.account.heal();
        scene.account.inject(Fault {
            operation,
            which: Which::Always,
            kind: FaultKind::Throttled,
        });
        let error = fleet.release_scale_in(deployment).await.unwrap_err();
        assert!(matches!(error, PortError::Throttled { .. }), "{error:?}");
    }
}
