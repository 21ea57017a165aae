//! The little of AWS's APIs that the world's agents need, asked of moto by plain HTTP.
//!
//! The agents play AWS itself, so they ask moto directly and not through the gateway: what they do is not recorded as
//! a call of Serin's and no fault is injected into it.

use std::time::Duration;

use serde_json::Value;

/// How long moto may take to answer.
const TIME_OUT: Duration = Duration::from_secs(10);

/// The services whose JSON protocol is spoken, each with its name in the credential scope (by which moto tells
/// services apart), its target prefix and its content type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    CloudMap,
    CloudWatch,
    Ecr,
    Ecs,
}

impl Service {
    fn scope(self) -> &'static str {
        match self {
            Self::CloudMap => "servicediscovery",
            Self::CloudWatch => "monitoring",
            Self::Ecr => "ecr",
            Self::Ecs => "ecs",
        }
    }

    fn target_prefix(self) -> &'static str {
        match self {
            Self::CloudMap => "Route53AutoNaming_v20170314",
            Self::CloudWatch => "GraniteServiceVersion20100801",
            Self::Ecr => "AmazonEC2ContainerRegistry_V20150921",
            Self::Ecs => "AmazonEC2ContainerServiceV20141113",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::CloudWatch => "application/x-amz-json-1.0",
            Self::CloudMap | Self::Ecr | Self::Ecs => "application/x-amz-json-1.1",
        }
    }
}

/// Why moto gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MotoError {
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
    pub(crate) fn is_not_found(&self) -> bool {
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
            http: reqwest::Client::builder().no_proxy().timeout(TIME_OUT).build()?,
        })
    }

    /// Calls an operation of a service that speaks JSON with a target header.
    pub(crate) async fn call(&self, service: Service, operation: &str, request: &Value) -> Result<Value, MotoError> {
        let built = self
            .http
            .post(format!("{}/", self.base))
            .header("content-type", service.content_type())
            .header("x-amz-target", format!("{}.{operation}", service.target_prefix()))
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

    async fn send(operation: &str, request: reqwest::RequestBuilder) -> Result<Value, MotoError> {
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
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
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
