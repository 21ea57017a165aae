//! One invocation of a function: from Lambda's API to the runtime API's emulator, and its errors back.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::ApiResponse;
use crate::functions::{FUNCTION_TIME_OUT, FunctionProcesses};
use crate::moto::percent_decode;

/// How a function failed, under the name that the state machine catches.
#[derive(Debug)]
pub(super) struct FunctionError {
    /// The name: what the function's code reported, or Lambda's own.
    pub(super) name: String,
    body: Bytes,
}

impl FunctionError {
    pub(super) fn named(name: &str, message: &str) -> Self {
        Self {
            name: name.to_owned(),
            body: json!({"errorType": name, "errorMessage": message})
                .to_string()
                .into(),
        }
    }

    /// What Lambda reports in the place of a function whose process ended.
    pub(super) fn ended(function: &str) -> Self {
        Self::named(
            "Runtime.ExitError",
            &format!("the process of {function} ended"),
        )
    }

    /// What the function itself reported: `{"errorType", "errorMessage"}`.
    fn reported(body: Bytes) -> Option<Self> {
        let payload: Value = serde_json::from_slice(&body).ok()?;
        let name = payload["errorType"].as_str()?.to_owned();
        Some(Self { name, body })
    }
}

/// The function that a path of Lambda's API invokes: a name, or an ARN with or without a version.
pub(super) fn function_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/2015-03-31/functions/")?;
    let name = percent_decode(rest.strip_suffix("/invocations")?);
    match name.split_once(":function:") {
        Some((_, name)) => name.split(':').next().map(ToOwned::to_owned),
        None => Some(name),
    }
}

/// Runs a function and waits for its answer, for its end or for the end of its time.
///
/// Moto's state machine takes only function errors by their names, so Lambda's own errors, which on AWS are HTTP errors
/// and arrive as `Lambda.ServiceException` and the like, are told as function errors of that name.
pub(super) async fn run(
    http: &reqwest::Client,
    functions: &FunctionProcesses,
    function: &str,
    body: Bytes,
) -> Result<Bytes, FunctionError> {
    let Some(process) = functions.get(function) else {
        return Err(FunctionError::named(
            "Lambda.ResourceNotFoundException",
            &format!("there is no function {function}"),
        ));
    };
    let sent = http.post(process.invocation_url()).body(body).send();
    let response = tokio::select! {
        sent = sent => sent.map_err(|error| FunctionError::named("Lambda.ServiceException", &error.to_string()))?,
        () = process.ended() => {
            return Err(FunctionError::ended(function));
        }
        () = tokio::time::sleep(FUNCTION_TIME_OUT) => {
            // As Lambda does: what did not answer in time is not used again.
            process.replace();
            let seconds = FUNCTION_TIME_OUT.as_secs();
            return Err(FunctionError::named("Sandbox.Timedout", &format!("Task timed out after {seconds}.00 seconds")));
        }
    };
    let succeeded = response.status().is_success();
    let body = response
        .bytes()
        .await
        .map_err(|error| FunctionError::named("Lambda.ServiceException", &error.to_string()))?;
    if succeeded {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    Err(FunctionError::reported(body)
        .unwrap_or_else(|| FunctionError::named("Lambda.Unknown", &text)))
}

/// The answer of Lambda's API: a function's error is a 200 with a header that says so.
pub(super) fn answer(result: Result<Bytes, FunctionError>) -> ApiResponse {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        "x-amz-executed-version",
        HeaderValue::from_static("$LATEST"),
    );
    let body = result.unwrap_or_else(|error| {
        headers.insert(
            "x-amz-function-error",
            HeaderValue::from_static("Unhandled"),
        );
        error.body
    });
    ApiResponse {
        status: StatusCode::OK,
        headers,
        body,
        injected: false,
        answered: true,
    }
}

#[cfg(test)]
mod tests {
    use super::function_of;

    #[test]
    fn a_function_is_found_by_name_and_by_arn() {
        let cases = [
            ("rollback", "rollback"),
            (
                "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ashift-weight",
                "shift-weight",
            ),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:cleanup:live",
                "cleanup",
            ),
        ];
        for (name, expected) in cases {
            let path = format!("/2015-03-31/functions/{name}/invocations");
            assert_eq!(function_of(&path).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(function_of("/2015-03-31/functions/rollback"), None);
    }
}
