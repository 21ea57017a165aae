//! From the SDK's errors to the four kinds that the ports know.

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use serin::PortError;

/// The names under which AWS's services say "too many calls".
const THROTTLED: [&str; 11] = [
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// The names under which AWS's services say "the fault is ours"; not all of them come with a 5xx status.
const UNAVAILABLE: [&str; 12] = [
    "ConcurrentUpdateException",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServerErrorException",
    "InternalServiceError",
    "InternalServiceException",
    "InternalServiceFault",
    "RequestTimeout",
    "ServerException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
];

/// Turns any operation's error into a [`PortError`]; `call` is the operation, as `ECS DescribeServices`.
pub(crate) fn failed<E>(call: &'static str) -> impl FnOnce(SdkError<E>) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    move |error| port_error(call, &error)
}

/// As [`failed`], for an error that somebody still looks at.
pub(crate) fn port_error<E>(call: &str, error: &SdkError<E>) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let call = call.to_owned();
    match error {
        SdkError::ServiceError(answer) => {
            let code = answer.err().code().unwrap_or_default();
            let message = message(answer.err(), code);
            kind(code, answer.raw().status().as_u16())(call, message)
        }
        // Whether the call took effect is not known in these three.
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            PortError::Unavailable {
                call,
                message: chain(error),
            }
        }
        _ => PortError::Refused {
            call,
            message: chain(error),
        },
    }
}

/// An answer that a call gave although it succeeded, and with which nothing can be done.
pub(crate) fn refused(call: &str, message: impl Into<String>) -> PortError {
    PortError::Refused {
        call: call.to_owned(),
        message: message.into(),
    }
}

/// Whether the service answered that the thing is not there.
///
/// Each service (and moto) has names of its own for it, all of which say so.
pub(crate) fn is_not_found<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    matches!(error, SdkError::ServiceError(_))
        && error.code().is_some_and(|code| code.contains("NotFound"))
}

/// Whether the service answered with this error.
pub(crate) fn has_code<E: ProvideErrorMetadata>(error: &SdkError<E>, code: &str) -> bool {
    error.code() == Some(code)
}

/// An error and its sources, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let link = error.to_string();
        if !text.ends_with(&link) {
            text.push_str(": ");
            text.push_str(&link);
        }
        source = error.source();
    }
    text
}

fn message(
    error: &(impl ProvideErrorMetadata + std::error::Error + 'static),
    code: &str,
) -> String {
    match (code, error.message()) {
        ("", None) => chain(error),
        ("", Some(message)) => message.to_owned(),
        (code, None) => code.to_owned(),
        (code, Some(message)) => format!("{code}: {message}"),
    }
}

fn kind(code: &str, status: u16) -> fn(String, String) -> PortError {
    if THROTTLED.contains(&code) || status == 429 {
        |call, message| PortError::Throttled { call, message }
    } else if UNAVAILABLE.contains(&code) || status >= 500 {
        |call, message| PortError::Unavailable { call, message }
    } else if is_denial(code) || matches!(status, 401 | 403) {
        |call, message| PortError::Denied { call, message }
    } else {
        |call, message| PortError::Refused { call, message }
    }
}

fn is_denial(code: &str) -> bool {
    code.starts_with("AccessDenied")
        || code.starts_with("Forbidden")
        || code == "UnauthorizedOperation"
        || code == "NotAuthorized"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(code: &str, status: u16) -> &'static str {
        match kind(code, status)(String::new(), String::new()) {
            PortError::Throttled { .. } => "throttled",
            PortError::Unavailable { .. } => "unavailable",
            PortError::Denied { .. } => "denied",
            PortError::Refused { .. } => "refused",
        }
    }

    #[test]
    fn each_services_own_words_become_one_of_four_kinds() {
        let table = [
            ("ThrottlingException", 400, "throttled"),      // ECS, ECR
            ("TooManyRequestsException", 429, "throttled"), // App Mesh
            ("RequestLimitExceeded", 400, "throttled"),     // Cloud Map
            ("Throttling", 400, "throttled"),               // CloudWatch
            ("ProvisionedThroughputExceededException", 400, "throttled"), // DynamoDB
            ("ServerException", 500, "unavailable"),        // ECS
            ("ServiceUnavailableException", 503, "unavailable"), // App Mesh
            ("", 502, "unavailable"),                       // a proxy on the way
            ("AccessDeniedException", 400, "denied"),       // ECS
            ("AccessDenied", 403, "denied"),                // CloudWatch
            ("ForbiddenException", 403, "denied"),          // App Mesh
            ("LimitExceededException", 400, "refused"), // App Mesh: a quota, so waiting does not help
            ("InvalidParameterException", 400, "refused"), // ECS
            ("ConflictException", 409, "refused"),      // App Mesh
        ];
        for (code, status, expected) in table {
            assert_eq!(kind_of(code, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn a_call_that_got_no_answer_may_have_taken_effect_and_is_worth_trying_again() {
        use aws_sdk_ecs::operation::describe_services::DescribeServicesError;
        let error: SdkError<DescribeServicesError> = SdkError::timeout_error("no answer in 5 s");
        let error = port_error("ECS DescribeServices", &error);
        assert!(
            matches!(&error, PortError::Unavailable { call, .. } if call == "ECS DescribeServices"),
            "{error:?}"
        );
        assert!(error.to_string().contains("no answer in 5 s"), "{error}");
    }

    #[test]
    fn a_request_that_could_not_be_built_was_never_sent() {
        use aws_sdk_ecs::operation::describe_services::DescribeServicesError;
        let error: SdkError<DescribeServicesError> = SdkError::construction_failure("no region");
        assert!(matches!(
            port_error("ECS DescribeServices", &error),
            PortError::Refused { .. }
        ));
    }
}
