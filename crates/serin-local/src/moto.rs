//! AWS's APIs, asked of moto by plain HTTP.
//!
//! What plays the world (the stack's creation, the user's services, the agents) asks moto directly and not through the
//! gateway: what it does is not recorded as a call of Serin's and no fault is injected into it.

use std::time::Duration;

use serde_json::Value;

use crate::query;

/// How long moto may take to answer.
const TIME_OUT: Duration = Duration::from_secs(30);

/// The services whose JSON protocol is spoken, each with its name in the credential scope (by which moto tells
/// services apart), its target prefix and its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    AutoScaling,
    CloudMap,
    CloudWatch,
    DynamoDb,
    Ecr,
    Ecs,
    SecretsManager,
    StepFunctions,
}

impl Service {
    fn scope(self) -> &'static str {
        match self {
            Self::AutoScaling => "application-autoscaling",
            Self::CloudMap => "servicediscovery",
            Self::CloudWatch => "monitoring",
            Self::DynamoDb => "dynamodb",
            Self::Ecr => "ecr",
            Self::Ecs => "ecs",
            Self::SecretsManager => "secretsmanager",
            Self::StepFunctions => "states",
        }
    }

    fn target_prefix(self) -> &'static str {
        match self {
            Self::AutoScaling => "AnyScaleFrontendService",
            Self::CloudMap => "Route53AutoNaming_v20170314",
            Self::CloudWatch => "GraniteServiceVersion20100801",
            Self::DynamoDb => "DynamoDB_20120810",
            Self::Ecr => "AmazonEC2ContainerRegistry_V20150921",
            Self::Ecs => "AmazonEC2ContainerServiceV20141113",
            Self::SecretsManager => "secretsmanager",
            Self::StepFunctions => "AWSStepFunctions",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::CloudWatch | Self::DynamoDb | Self::StepFunctions => "application/x-amz-json-1.0",
            Self::AutoScaling | Self::CloudMap | Self::Ecr | Self::Ecs | Self::SecretsManager => {
                "application/x-amz-json-1.1"
            }
        }
    }
}

/// Why moto gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// The request did not arrive, or the answer did not.
    #[error("{operation} did not reach moto")]
    Unreachable {
        /// The operation asked for.
        operation: String,
        /// What went wrong on the way.
        #[source]
        source: reqwest::Error,
    },
    /// Moto answered with an error.
    #[error("{operation} was refused: {code}: {message}")]
    Refused {
        /// The operation asked for.
        operation: String,
        /// The error's name, such as `ServiceNotFound`.
        code: String,
        /// The error's text.
        message: String,
    },
}

impl MotoError {
    /// Whether moto said that the thing does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.contains("NotFound"))
    }
}

/// A client of moto.
#[derive(Debug, Clone)]
pub(crate) struct Moto {
    base: String,
    region: String,
    http: reqwest::Client,
}

impl Moto {
    /// A client of the moto at `base`, such as `http://127.0.0.1:5000`.
    pub(crate) fn new(base: &str, region: &str) -> Result<Self, reqwest::Error> {
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(TIME_OUT)
                .build()?,
        })
    }

    /// Calls an operation of a service that speaks JSON with a target header.
    pub(crate) async fn call(
        &self,
        service: Service,
        operation: &str,
        request: &Value,
    ) -> Result<Value, MotoError> {
        let built = self
            .http
            .post(format!("{}/", self.base))
            .header("content-type", service.content_type())
            .header(
                "x-amz-target",
                format!("{}.{operation}", service.target_prefix()),
            )
            .header("authorization", self.authorization(service.scope()))
            .body(request.to_string());
        Self::send(operation, built).await
    }

    /// Reads something of App Mesh; `path` is what follows `/v20190125`.
    pub(crate) async fn app_mesh(&self, path: &str) -> Result<Value, MotoError> {
        let built = self
            .http
            .get(format!("{}/v20190125{path}", self.base))
            .header("authorization", self.authorization("appmesh"));
        Self::send(path, built).await
    }

    /// Creates something in App Mesh, or updates it where the path names it.
    pub(crate) async fn app_mesh_put(
        &self,
        path: &str,
        request: &Value,
    ) -> Result<Value, MotoError> {
        let built = self
            .http
            .put(format!("{}/v20190125{path}", self.base))
            .header("content-type", "application/json")
            .header("authorization", self.authorization("appmesh"))
            .body(request.to_string());
        Self::send(path, built).await
    }

    /// Asks EC2, which speaks an older protocol, for the ids of all things of a kind: `DescribeSubnets` and `subnetId`.
    pub(crate) async fn ec2_ids(
        &self,
        action: &str,
        element: &str,
    ) -> Result<Vec<String>, MotoError> {
        let request = self
            .http
            .post(format!("{}/", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", self.authorization("ec2"))
            .body(format!("Action={action}&Version=2016-11-15"));
        let answer = Self::exchange(action, request).await?;
        // The answer is XML of which only these elements matter.
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let found = answer.split(&open).skip(1);
        Ok(found
            .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
            .collect())
    }

    /// Calls an operation of Elastic Load Balancing; returns what is in the element `...Result` of its answer.
    pub(crate) async fn load_balancing(
        &self,
        action: &str,
        request: &Value,
    ) -> Result<Value, MotoError> {
        let built = self
            .http
            .post(format!("{}/", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", self.authorization("elasticloadbalancing"))
            .body(query::form(action, request));
        let text = Self::exchange(action, built).await?;
        let (_, mut answer) = query::read_xml(&text).unwrap_or_default();
        Ok(answer
            .get_mut(format!("{action}Result"))
            .map(Value::take)
            .unwrap_or_default())
    }

    /// Talks to moto's own interface, which is no AWS API; `path` begins with `/moto-api`.
    pub(crate) async fn configure(&self, path: &str, request: &Value) -> Result<Value, MotoError> {
        let built = self.http.post(format!("{}{path}", self.base)).json(request);
        Self::send(path, built).await
    }

    /// Whether moto answers at all.
    pub(crate) async fn is_up(&self) -> bool {
        let request = self.http.get(format!("{}/moto-api/config", self.base));
        matches!(request.send().await, Ok(response) if response.status().is_success())
    }

    async fn send(operation: &str, request: reqwest::RequestBuilder) -> Result<Value, MotoError> {
        let text = Self::exchange(operation, request).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn exchange(
        operation: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<String, MotoError> {
        let unreachable = |source| MotoError::Unreachable {
            operation: operation.to_owned(),
            source,
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let error_type = response
            .headers()
            .get("x-amzn-errortype")
            .and_then(|name| name.to_str().ok())
            .map(ToOwned::to_owned);
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(text);
        }
        if let Some((root, error)) = query::read_xml(&text)
            && root == "ErrorResponse"
        {
            let member = |name: &str| error["Error"][name].as_str().unwrap_or_default().to_owned();
            return Err(MotoError::Refused {
                operation: operation.to_owned(),
                code: member("Code"),
                message: member("Message"),
            });
        }
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        Err(MotoError::Refused {
            operation: operation.to_owned(),
            code: body["__type"]
                .as_str()
                .map(ToOwned::to_owned)
                .or(error_type)
                .or_else(|| body["code"].as_str().map(ToOwned::to_owned))
                .unwrap_or_else(|| status.to_string()),
            message: body["message"].as_str().unwrap_or(text.trim()).to_owned(),
        })
    }

    /// Nobody checks the signature, but moto reads the service and the region from the credential scope.
    fn authorization(&self, scope: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=local/20260101/{}/{scope}/aws4_request, SignedHeaders=host, Signature=local",
            self.region
        )
    }
}

/// Encodes a value for a form or a path segment: everything but the unreserved characters becomes `%XX`.
pub(crate) fn percent_encode(value: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The reverse of [`percent_encode`]; what is no valid encoding stays as it is.
pub(crate) fn percent_decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = (bytes[at] == b'%')
            .then(|| value.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{percent_decode, percent_encode};

    #[test]
    fn what_is_encoded_comes_back() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:plan-deployment/é %";
        assert_eq!(percent_decode(&percent_encode(arn)), arn);
        assert_eq!(percent_decode("100%"), "100%");
    }
}
