//! Where the form that moto takes or gives is not AWS's, and the SDK would be refused or read something else.
//!
//! Only forms are repaired: what was asked and what moto says stay what they are.

use std::hash::{BuildHasher, RandomState};

use axum::http::StatusCode;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Repairs a request to App Mesh in place: moto insists on the attributes of a Cloud Map discovery, which AWS does not
/// and the SDK leaves out when there are none.
pub(super) fn app_mesh_request(request: &mut Value) {
    if let Some(Value::Object(discovery)) =
        request.pointer_mut("/spec/serviceDiscovery/awsCloudMap")
    {
        discovery.entry("attributes").or_insert_with(|| json!([]));
    }
}

/// Repairs a request to start an execution in place: AWS makes up a name for one that has none, moto calls it `None`.
pub(super) fn start_execution_request(request: &mut Value) {
    if let Value::Object(members) = request {
        members.entry("name").or_insert_with(|| {
            // Each of these states is random.
            let [first, second] = [(), ()].map(|()| RandomState::new().hash_one(()));
            json!(format!("{first:016x}-{second:016x}"))
        });
    }
}

/// Repairs an answer of App Mesh in place and returns the status that AWS would have given.
///
/// Moto writes moments as `21/11/2026, 03:23:28` where AWS writes seconds, and has error names of its own.
pub(super) fn app_mesh_answer(status: StatusCode, answer: &mut Value) -> StatusCode {
    moments(answer);
    if status.is_success() {
        return status;
    }
    let name = answer["__type"].as_str().unwrap_or_default();
    let (name, status) = if name.ends_with("NotFound") {
        ("NotFoundException", StatusCode::NOT_FOUND)
    } else if name.ends_with("AlreadyTaken") {
        ("ConflictException", StatusCode::CONFLICT)
    } else if name == "MissingRequiredField" {
        ("BadRequestException", StatusCode::BAD_REQUEST)
    } else {
        return status;
    };
    answer["__type"] = json!(name);
    status
}

/// Repairs an answer of Application Auto Scaling in place: AWS shows all three switches of every scalable target, moto
/// only those that somebody has set.
pub(super) fn auto_scaling_answer(answer: &mut Value) {
    let targets = answer
        .get_mut("ScalableTargets")
        .and_then(Value::as_array_mut);
    for target in targets.into_iter().flatten() {
        if !target["SuspendedState"].is_object() {
            target["SuspendedState"] = json!({});
        }
        for switch in [
            "DynamicScalingInSuspended",
            "DynamicScalingOutSuspended",
            "ScheduledScalingSuspended",
        ] {
            if !target["SuspendedState"][switch].is_boolean() {
                target["SuspendedState"][switch] = json!(false);
            }
        }
    }
}

fn moments(answer: &mut Value) {
    match answer {
        Value::Object(members) => {
            for (name, value) in members {
                if matches!(name.as_str(), "createdAt" | "lastUpdatedAt") {
                    if let Some(seconds) = value.as_str().and_then(seconds) {
                        *value = json!(seconds);
                    }
                } else {
                    moments(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(moments),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn seconds(text: &str) -> Option<i64> {
    let moment = DateTime::strptime("%d/%m/%Y, %H:%M:%S", text).ok()?;
    Some(moment.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::{app_mesh_answer, app_mesh_request, auto_scaling_answer, start_execution_request};

    #[test]
    fn moments_become_seconds() {
        let mut answer =
            json!({"metadata": {"createdAt": "21/11/2026, 03:23:28", "version": 1}, "spec": {}});
        assert_eq!(app_mesh_answer(StatusCode::OK, &mut answer), StatusCode::OK);
        assert_eq!(
            answer,
            json!({"metadata": {"createdAt": 1_795_231_408, "version": 1}, "spec": {}})
        );
    }

    #[test]
    fn a_discovery_without_attributes_gets_none() {
        let mut request =
            json!({"spec": {"serviceDiscovery": {"awsCloudMap": {"serviceName": "a"}}}});
        app_mesh_request(&mut request);
        let discovery = &request["spec"]["serviceDiscovery"]["awsCloudMap"];
        assert_eq!(*discovery, json!({"serviceName": "a", "attributes": []}));
    }

    #[test]
    fn an_execution_without_a_name_gets_one_of_its_own() {
        let (mut first, mut second, mut named) = (json!({}), json!({}), json!({"name": "mine"}));
        for request in [&mut first, &mut second, &mut named] {
            start_execution_request(request);
        }
        assert_ne!(first["name"], second["name"]);
        assert_eq!(named["name"], "mine");
    }

    #[test]
    fn a_scalable_target_shows_all_its_switches() {
        let mut answer = json!({"ScalableTargets": [{"SuspendedState": {"DynamicScalingInSuspended": true}}, {}]});
        auto_scaling_answer(&mut answer);
        let switches = |in_suspended| {
            json!({
                "DynamicScalingInSuspended": in_suspended,
                "DynamicScalingOutSuspended": false,
                "ScheduledScalingSuspended": false,
            })
        };
        let targets = &answer["ScalableTargets"];
        assert_eq!(targets[0]["SuspendedState"], switches(true));
        assert_eq!(targets[1]["SuspendedState"], switches(false));
    }

    #[test]
    fn errors_get_the_names_and_statuses_of_aws() {
        for (moto, aws, status) in [
            ("RouteNotFound", "NotFoundException", 404),
            ("VirtualNodeNameAlreadyTaken", "ConflictException", 409),
            ("MissingRequiredField", "BadRequestException", 400),
        ] {
            let mut answer = json!({"__type": moto, "message": "the message"});
            assert_eq!(
                app_mesh_answer(StatusCode::BAD_REQUEST, &mut answer).as_u16(),
                status
            );
            assert_eq!(answer, json!({"__type": aws, "message": "the message"}));
        }
    }
}
