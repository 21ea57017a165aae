use aws_sdk_sfn::types::ExecutionStatus;
use serin::history::{Order, Wish};
use serin::ports::{Contender, Decisions, History, Ledger, Lock, LockHolder, Phase};
use serin::{ClusterName, Ending, ExecutionArn, Leftover, PortError, ServiceKey, ServiceName};
use serin_sim::{Fault, FaultKind, Which, world};

use crate::{EXECUTION, Scene, cluster};

fn service() -> ServiceKey {
    ServiceKey {
        cluster: cluster(),
        service: ServiceName::new(world::SERVICE),
    }
}

fn first() -> ExecutionArn {
    ExecutionArn::new(EXECUTION)
}

fn second() -> ExecutionArn {
    ExecutionArn::new("arn:aws:states:eu-west-1:123456789012:execution:serin:second")
}

#[tokio::test]
async fn a_service_has_one_deployment_and_the_second_is_told_which() {
    let scene = Scene::new().await;
    let (ledger, now) = (&scene.aws.ledger, scene.account.clock().now());
    assert_eq!(
        ledger.lock(&service(), &first(), now, now).await,
        Ok(Lock::Taken { bearer: None })
    );
    let later = now + jiff::SignedDuration::from_secs(60);
    assert_eq!(
        ledger.lock(&service(), &first(), later, later).await,
        Ok(Lock::Taken { bearer: None })
    );
    let held = Lock::Held(LockHolder {
        execution: first(),
        since: now,
    });
    assert_eq!(
        ledger.lock(&service(), &second(), later, later).await,
        Ok(held)
    );
    // Only its holder gives it back.
    ledger.unlock(&service(), &second()).await.unwrap();
    assert!(matches!(
        ledger.lock(&service(), &second(), later, later).await,
        Ok(Lock::Held(_))
    ));
    ledger.unlock(&service(), &first()).await.unwrap();
    ledger.unlock(&service(), &first()).await.unwrap();
    assert_eq!(
        ledger.lock(&service(), &second(), later, later).await,
        Ok(Lock::Taken { bearer: None })
    );
}

#[tokio::test]
async fn a_lock_that_was_taken_although_the_answer_was_lost_is_ours() {
    let scene = Scene::new().await;
    let now = scene.account.clock().now();
    scene.account.inject(Fault {
        operation: "UpdateItem",
        which: Which::Nth(1),
        kind: FaultKind::AnswerLost,
    });
    let error = scene
        .aws
        .ledger
        .lock(&service(), &first(), now, now)
        .await
        .unwrap_err();
    assert!(matches!(error, PortError::Unavailable { .. }), "{error:?}");
    assert_eq!(
        scene.aws.ledger.lock(&service(), &first(), now, now).await,
        Ok(Lock::Taken { bearer: None })
    );
}

#[tokio::test]
async fn a_deployment_is_found_as_it_was_recorded() {
    let scene = Scene::new().await;
    let (ledger, deployment) = (&scene.aws.ledger, &scene.deployment);
    assert_eq!(ledger.find(&first()).await, Ok(None));
    assert_eq!(ledger.phase(&first()).await, Ok(None));
    ledger.record(deployment).await.unwrap();
    ledger
        .enter(&first(), Phase::RollingBack)
        .await
        .unwrap()
        .unwrap();
    // Recorded again by a Lambda that comes late: the phase stays.
    ledger.record(deployment).await.unwrap();
    let record = ledger.find(&first()).await.unwrap().unwrap();
    assert_eq!(
        (&record.deployment, record.phase, record.ending),
        (deployment, Phase::RollingBack, None)
    );
    let item = scene
        .account
        .item(world::LEDGER_TABLE, &format!("deployment#{EXECUTION}"))
        .unwrap();
    assert!(item.contains_key("startedAt"));
    assert!(
        !item.contains_key("expiresAt"),
        "an open record is all that a recovery knows"
    );
}

#[tokio::test]
async fn only_legal_moves_are_made_and_staying_is_legal() {
    let scene = Scene::new().await;
    let ledger = &scene.aws.ledger;
    assert_eq!(
        ledger.enter(&first(), Phase::Promoting).await,
        Ok(Err(Phase::Ended)),
        "not recorded"
    );
    assert_eq!(
        ledger.find(&first()).await,
        Ok(None),
        "nothing is written for it"
    );
    ledger.record(&scene.deployment).await.unwrap();
    assert_eq!(ledger.enter(&first(), Phase::Running).await, Ok(Ok(())));
    assert_eq!(ledger.enter(&first(), Phase::Promoting).await, Ok(Ok(())));
    assert_eq!(ledger.enter(&first(), Phase::CleaningUp).await, Ok(Ok(())));
    assert_eq!(
        ledger.enter(&first(), Phase::RollingBack).await,
        Ok(Err(Phase::CleaningUp))
    );
    assert_eq!(
        ledger.enter(&first(), Phase::Running).await,
        Ok(Err(Phase::CleaningUp))
    );
}

#[tokio::test]
async fn an_ended_deployment_gives_its_lock_back_and_names_the_new_bearer() {
    let scene = Scene::new().await;
    let (ledger, deployment, now) = (
        &scene.aws.ledger,
        &scene.deployment,
        scene.account.clock().now(),
    );
    ledger.lock(&service(), &first(), now, now).await.unwrap();
    ledger.record(deployment).await.unwrap();
    let bearer = deployment.canary.service.clone();
    for _ in 0..2 {
        ledger
            .close(deployment, Ending::Promoted, Some(&bearer), now)
            .await
            .unwrap();
    }
    let record = ledger.find(&first()).await.unwrap().unwrap();
    assert_eq!(
        (record.phase, record.ending),
        (Phase::Ended, Some(Ending::Promoted))
    );
    assert_eq!(
        ledger.lock(&service(), &second(), now, now).await,
        Ok(Lock::Taken {
            bearer: Some(bearer.clone())
        })
    );
    // Closed once more, late: the lock is another's by now, and stays so.
    ledger
        .close(
            deployment,
            Ending::Promoted,
            Some(&ServiceName::new("late")),
            now,
        )
        .await
        .unwrap();
    assert_eq!(
        ledger.lock(&service(), &second(), now, now).await,
        Ok(Lock::Taken {
            bearer: Some(bearer.clone())
        })
    );
    // A promotion keeps the bearer.
    let mut next = deployment.clone();
    next.execution = second();
    ledger.record(&next).await.unwrap();
    ledger
        .close(&next, Ending::RolledBack, None, now)
        .await
        .unwrap();
    assert_eq!(
        ledger.lock(&service(), &first(), now, now).await,
        Ok(Lock::Taken {
            bearer: Some(bearer)
        })
    );
}

#[tokio::test]
async fn what_needs_a_person_keeps_its_lock_and_its_phase() {
    let scene = Scene::new().await;
    let (ledger, deployment, now) = (
        &scene.aws.ledger,
        &scene.deployment,
        scene.account.clock().now(),
    );
    ledger.lock(&service(), &first(), now, now).await.unwrap();
    ledger.record(deployment).await.unwrap();
    ledger
        .enter(&first(), Phase::RollingBack)
        .await
        .unwrap()
        .unwrap();
    let left = [Leftover {
        arn: "arn:aws:ecs:eu-west-1:1:service/prod/canary".into(),
        what: "a service".into(),
        command: "aws ecs delete-service".into(),
    }];
    ledger.call_a_person(deployment, &left, now).await.unwrap();
    let record = ledger.find(&first()).await.unwrap().unwrap();
    assert_eq!(
        (record.phase, record.ending, record.left.as_slice()),
        (Phase::RollingBack, Some(Ending::NeedsAttention), &left[..])
    );
    assert!(matches!(
        ledger.lock(&service(), &second(), now, now).await,
        Ok(Lock::Held(_))
    ));

    // When it is over, nobody is called any more, and the list is gone.
    ledger
        .close(deployment, Ending::RolledBack, None, now)
        .await
        .unwrap();
    ledger.call_a_person(deployment, &left, now).await.unwrap();
    let record = ledger.find(&first()).await.unwrap().unwrap();
    assert_eq!(
        (record.ending, record.left),
        (Some(Ending::RolledBack), Vec::new())
    );
}

#[tokio::test]
async fn every_lock_that_is_held_is_listed_and_no_other() {
    let scene = Scene::new().await;
    let (ledger, now) = (&scene.aws.ledger, scene.account.clock().now());
    assert_eq!(ledger.held().await.unwrap(), []);
    let services: Vec<_> = ["a", "b", "c"]
        .map(|name| ServiceKey {
            cluster: ClusterName::new("prod"),
            service: ServiceName::new(name),
        })
        .to_vec();
    for service in &services {
        ledger.lock(service, &first(), now, now).await.unwrap();
    }
    ledger.record(&scene.deployment).await.unwrap();
    ledger.unlock(&services[1], &first()).await.unwrap();
    let held = ledger.held().await.unwrap();
    let names: Vec<_> = held.iter().map(|held| &held.service).collect();
    assert_eq!(names, [&services[0], &services[2]]);
    assert_eq!(held[0].holder.execution, first());
}

#[tokio::test]
async fn an_unrecorded_deployment_still_gives_its_lock_back() {
    let scene = Scene::new().await;
    let (ledger, now) = (&scene.aws.ledger, scene.account.clock().now());
    ledger.lock(&service(), &first(), now, now).await.unwrap();
    ledger
        .close(&scene.deployment, Ending::RolledBack, None, now)
        .await
        .unwrap();
    assert_eq!(ledger.find(&first()).await, Ok(None));
    assert!(matches!(
        ledger.lock(&service(), &second(), now, now).await,
        Ok(Lock::Taken { .. })
    ));
}

#[tokio::test]
async fn an_executions_status_is_step_functions_own_word() {
    let scene = Scene::new().await;
    scene
        .account
        .set_execution(EXECUTION, ExecutionStatus::Aborted);
    assert_eq!(
        scene.aws.ledger.execution_status(&first()).await,
        Ok(serin::ports::ExecutionStatus::Over("ABORTED".into()))
    );
    assert_eq!(
        scene.aws.ledger.execution_status(&second()).await,
        Ok(serin::ports::ExecutionStatus::Forgotten)
    );
}

#[tokio::test]
async fn one_execution_waits_for_the_lock_and_nobody_else_gets_it_meanwhile() {
    let scene = Scene::new().await;
    let (ledger, now) = (&scene.aws.ledger, scene.account.clock().now());
    let later = now + jiff::SignedDuration::from_secs(60);
    let waiter = |execution, started_at| Contender {
        execution,
        started_at,
        version: None,
    };
    ledger.lock(&service(), &first(), now, now).await.unwrap();
    let second_waits = waiter(second(), later);
    for _ in 0..2 {
        let waits = ledger.wait(&service(), &second_waits).await;
        assert_eq!(waits, Ok(true), "twice is once");
    }
    let turns = ledger.turns(&service()).await.unwrap();
    assert_eq!(turns.holder.map(|holder| holder.execution), Some(first()));
    assert_eq!(turns.waiter, Some(second_waits));
    let third = ExecutionArn::new(format!("{EXECUTION}-third"));
    let older = ledger.wait(&service(), &waiter(third.clone(), now)).await;
    assert_eq!(older, Ok(false), "the newest waits");
    ledger.unlock(&service(), &first()).await.unwrap();
    let taken = ledger.lock(&service(), &third, later, later).await;
    assert_eq!(taken, Ok(Lock::Reserved));
    ledger.leave(&service(), &third).await.unwrap();
    let turns = ledger.turns(&service()).await.unwrap();
    assert!(turns.waiter.is_some(), "it was not its place");
    assert_eq!(
        ledger.lock(&service(), &second(), later, later).await,
        Ok(Lock::Taken { bearer: None })
    );
}

#[tokio::test]
async fn a_deployment_on_trial_makes_room_once_and_one_that_is_promoted_does_not() {
    let scene = Scene::new().await;
    let ledger = &scene.aws.ledger;
    ledger.record(&scene.deployment).await.unwrap();
    for _ in 0..2 {
        assert_eq!(ledger.supersede(&first(), &second()).await, Ok(Ok(())));
    }
    assert_eq!(ledger.phase(&first()).await, Ok(Some(Phase::RollingBack)));

    let scene = Scene::new().await;
    let ledger = &scene.aws.ledger;
    ledger.record(&scene.deployment).await.unwrap();
    ledger
        .enter(&first(), Phase::Promoting)
        .await
        .unwrap()
        .unwrap();
    let refused = ledger.supersede(&first(), &second()).await;
    assert_eq!(refused, Ok(Err(Phase::Promoting)));
}

#[tokio::test]
async fn the_last_wish_for_a_running_deployment_is_the_one_that_its_checks_find() {
    let scene = Scene::new().await;
    let ledger = &scene.aws.ledger;
    assert_eq!(ledger.order(&first()).await, Ok(None));
    let wish = |id: &str, order| Wish {
        request_id: id.to_owned(),
        at: scene.account.clock().now(),
        by: "Ada \"<b>\" Lovelace".to_owned(),
        order,
        came_of_it: String::new(),
    };
    let (freeze, promote) = (wish("1", Order::Freeze), wish("2", Order::Promote));
    for wish in [&freeze, &promote] {
        let decisions = &scene.aws.decisions;
        decisions.leave_order(&first(), wish).await.unwrap();
    }
    assert_eq!(ledger.order(&first()).await, Ok(Some(promote)));
    assert_eq!(ledger.order(&second()).await, Ok(None));
}

#[tokio::test]
async fn what_was_kept_of_a_deployment_is_told_whole_and_in_order() {
    let scene = Scene::new().await;
    let (ledger, now) = (&scene.aws.ledger, scene.account.clock().now());
    let request = serde_json::json!({"service": "checkout", "image": "<script>"});
    for _ in 0..2 {
        ledger.keep_request(&first(), &request, now).await.unwrap();
    }
    ledger.record(&scene.deployment).await.unwrap();
    let story = ledger.story(&first()).await.unwrap();
    assert_eq!(story.request, Some(request));
    assert_eq!(story.record.unwrap().deployment, scene.deployment);
    assert_eq!(story.wishes, []);
    let story = ledger.story(&second()).await.unwrap();
    assert_eq!((story.request, story.record), (None, None));
}
