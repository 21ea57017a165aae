//! The names of the errors on their way from a step to the state machine.

use serde_json::json;
use serin_aws::Failed;

use serin_driver::{answer, task_error};

/// Checks that an error arrives under the name of its variant, with its sentence.
#[track_caller]
fn check<E>(error: E, name: &str, sentence: &str)
where
    E: std::error::Error + Into<&'static str>,
{
    let arrived = task_error(Failed::Step(error));
    assert_eq!(arrived.error, name);
    assert_eq!(
        arrived.cause,
        json!({ "errorType": name, "errorMessage": sentence }).to_string()
    );
}

#[test]
fn each_steps_errors_arrive_under_their_names() {
    check(
        plan_deployment::PlanDeploymentError::InvalidRequest("plan: no".into()),
        "InvalidRequest",
        "plan: no",
    );
    check(
        create_canary::CreateCanaryError::CanaryNotStarting(
            "the canary does not start: exit 1".into(),
        ),
        "CanaryNotStarting",
        "the canary does not start: exit 1",
    );
    check(
        shift_weight::ShiftWeightError::RouteChangedByOthers("10 and 20".into()),
        "RouteChangedByOthers",
        "10 and 20",
    );
    check(
        health_check::HealthCheckError::NoStepInForce,
        "NoStepInForce",
        "no step is in force",
    );
    check(
        cleanup::CleanupError::AwsThrottled("ECS UpdateService".into()),
        "AwsThrottled",
        "ECS UpdateService",
    );
    check(
        rollback::RollbackError::AwsDenied("App Mesh UpdateRoute".into()),
        "AwsDenied",
        "App Mesh UpdateRoute",
    );
}

#[tokio::test]
async fn a_payload_that_no_step_understands_arrives_under_a_name_of_its_own() {
    let arrived = answer(
        json!({ "state": 5 }),
        async |_: serin::StepInput| -> Result<(), rollback::RollbackError> { Ok(()) },
    )
    .await;
    assert_eq!(arrived.unwrap_err().error_type, "MalformedInput");
}
