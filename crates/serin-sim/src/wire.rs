//! How an error travels: as the HTTP answer that AWS gives, so that the SDK itself makes the typed error of it.

use std::fmt;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use serde_json::{Map, Value, json};

use crate::answering::OnTheWire;

/// The header that tells the connector to lose the answer.
const LOST: &str = "x-serin-sim-lost";

/// Which AWS service a call went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Amazon ECS.
    Ecs,
    /// AWS App Mesh.
    AppMesh,
    /// Elastic Load Balancing v2.
    LoadBalancing,
    /// Application Auto Scaling.
    AutoScaling,
    /// AWS Cloud Map.
    CloudMap,
    /// Amazon CloudWatch.
    CloudWatch,
    /// Amazon DynamoDB.
    DynamoDb,
    /// Amazon ECR.
    Ecr,
    /// AWS Step Functions.
    StepFunctions,
    /// Amazon EventBridge.
    EventBridge,
    /// AWS Secrets Manager.
    SecretsManager,
    /// Amazon SNS.
    Sns,
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ecs => "ECS",
            Self::AppMesh => "App Mesh",
            Self::LoadBalancing => "Elastic Load Balancing",
            Self::AutoScaling => "Application Auto Scaling",
            Self::CloudMap => "Cloud Map",
            Self::CloudWatch => "CloudWatch",
            Self::DynamoDb => "DynamoDB",
            Self::Ecr => "ECR",
            Self::StepFunctions => "Step Functions",
            Self::EventBridge => "EventBridge",
            Self::SecretsManager => "Secrets Manager",
            Self::Sns => "SNS",
        })
    }
}

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's name.
    pub code: String,
    /// The error's sentence.
    pub message: String,
    /// Further members of the error.
    pub members: Box<Map<String, Value>>,
}

impl Refusal {
    /// An error that is the caller's fault.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: code.to_owned(),
            message: message.into(),
            members: Box::default(),
        }
    }

    /// With another HTTP status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With a further member.
    #[must_use]
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Too many calls, in this service's words.
    pub fn throttled(service: Service) -> Self {
        match service {
            Service::AppMesh => Self::new("TooManyRequestsException", "Rate exceeded").status(429),
            Service::CloudMap => Self::new("RequestLimitExceeded", "Rate exceeded"),
            Service::CloudWatch | Service::LoadBalancing => {
                Self::new("Throttling", "Rate exceeded")
            }
            Service::Sns => Self::new("Throttled", "Rate exceeded").status(429),
            Service::AutoScaling
            | Service::Ecs
            | Service::DynamoDb
            | Service::Ecr
            | Service::StepFunctions
            | Service::EventBridge
            | Service::SecretsManager => Self::new("ThrottlingException", "Rate exceeded"),
        }
    }

    /// Not allowed, in this service's words.
    pub fn denied(service: Service, operation: &str) -> Self {
        let message = format!(
            "User: arn:aws:sts::123456789012:assumed-role/serin/step is not authorized to perform: {operation}"
        );
        match service {
            Service::AppMesh => Self::new("ForbiddenException", message).status(403),
            Service::Sns => Self::new("AuthorizationError", message).status(403),
            Service::CloudWatch | Service::LoadBalancing => {
                Self::new("AccessDenied", message).status(403)
            }
            _ => Self::new("AccessDeniedException", message),
        }
    }

    /// A fault of AWS's, in this service's words.
    pub fn server_error(service: Service) -> Self {
        let code = match service {
            Service::Ecs | Service::Ecr => "ServerException",
            Service::AppMesh => "InternalServerErrorException",
            Service::CloudMap | Service::LoadBalancing => "InternalFailure",
            Service::AutoScaling => "InternalServiceException",
            Service::CloudWatch => "InternalServiceFault",
            Service::DynamoDb | Service::StepFunctions => "InternalServerError",
            Service::EventBridge => "InternalException",
            Service::SecretsManager => "InternalServiceError",
            Service::Sns => "InternalError",
        };
        Self::new(code, "Internal failure").status(500)
    }

    /// The HTTP answer in the service's protocol.
    pub(crate) fn response(&self, service: Service) -> HttpResponse {
        let body = match service {
            Service::CloudWatch => self.cbor(),
            Service::LoadBalancing | Service::Sns => self.xml(),
            _ => self.json(),
        };
        let status = StatusCode::try_from(self.status).expect("statuses are HTTP statuses");
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        match service {
            Service::AppMesh => {
                response
                    .headers_mut()
                    .insert("x-amzn-errortype", self.code.clone());
            }
            Service::CloudWatch => {
                response
                    .headers_mut()
                    .insert("smithy-protocol", "rpc-v2-cbor");
                response
                    .headers_mut()
                    .insert("content-type", "application/cbor");
            }
            Service::LoadBalancing | Service::Sns => {
                response.headers_mut().insert("content-type", "text/xml");
            }
            _ => {}
        }
        response
    }

    /// The AWS query protocol's error.
    fn xml(&self) -> Vec<u8> {
        let escaped = |text: &str| {
            text.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
        };
        let at_fault = if self.status >= 500 {
            "Receiver"
        } else {
            "Sender"
        };
        format!(
            "<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><Error><Type>{at_fault}</Type>\
             <Code>{}</Code><Message>{}</Message></Error><RequestId>simulated</RequestId></ErrorResponse>",
            escaped(&self.code),
            escaped(&self.message)
        )
        .into_bytes()
    }

    fn json(&self) -> Vec<u8> {
        let mut body = self.members.clone();
        body.insert("__type".to_owned(), json!(self.code));
        body.insert("message".to_owned(), json!(self.message));
        Value::Object(*body).to_string().into_bytes()
    }

    /// A CBOR map of two texts.
    fn cbor(&self) -> Vec<u8> {
        let mut bytes = vec![0xA2];
        for text in ["__type", &self.code, "message", &self.message] {
            let length = u16::try_from(text.len())
                .expect("an error's sentence is short")
                .to_be_bytes();
            bytes.extend([0x79, length[0], length[1]]);
            bytes.extend(text.as_bytes());
        }
        bytes
    }
}

/// An answer that never arrives.
pub(crate) fn lost_response() -> HttpResponse {
    let mut response = HttpResponse::new(
        StatusCode::try_from(200).expect("a status"),
        SdkBody::empty(),
    );
    response.headers_mut().insert(LOST, "true");
    response
}

/// The HTTP client of the simulated account: it gives the answer that the call brings with it, or loses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire;

impl HttpClient for Wire {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Self)
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // An output is put in when the call completes; until then there is an answer that nobody reads.
        let answer = request.extension::<OnTheWire>().and_then(|answer| {
            let mut answer = answer.0.lock().expect("nobody panics while holding it");
            answer.take()
        });
        let response = answer.unwrap_or_else(|| {
            let teapot = StatusCode::try_from(418).expect("a status");
            HttpResponse::new(teapot, SdkBody::from("an output follows"))
        });
        HttpConnectorFuture::ready(if response.headers().get(LOST).is_some() {
            Err(ConnectorError::io(
                "the connection was closed before the answer came".into(),
            ))
        } else {
            Ok(response)
        })
    }
}
