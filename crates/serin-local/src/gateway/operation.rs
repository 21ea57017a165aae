//! Which operation of which AWS service a request asks for, and who asks.

use axum::http::{HeaderMap, Method};

use crate::query;

/// The path under which App Mesh's operations are found.
const APP_MESH: &str = "/v20190125/";

/// An operation of an AWS service, such as `ecs` `UpdateService`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) service: String,
    pub(crate) name: String,
}

impl Operation {
    pub(crate) fn new(service: &str, name: &str) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Reads the operation out of an `X-Amz-Target` such as `AmazonEC2ContainerServiceV20141113.UpdateService`.
    pub(crate) fn from_target(target: &str) -> Self {
        let (shape, name) = target.split_once('.').unwrap_or((target, "unknown"));
        Self::new(service_of_shape(shape), name)
    }

    /// Finds out what a request asks for. What is not recognised is named after its method and path.
    pub(crate) fn of(method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        if let Some(target) = text(headers, "x-amz-target") {
            return Self::from_target(target);
        }
        if let Some(rest) = path.strip_prefix(APP_MESH) {
            return Self::new("appmesh", app_mesh_operation(method, rest));
        }
        let service = credential_scope(headers).unwrap_or("unknown");
        // The query protocol: a form that names its action.
        if text(headers, "content-type").is_some_and(|kind| kind.contains("x-www-form-urlencoded"))
            && let Some(action) = query::read_form(body)["Action"].as_str()
        {
            return Self::new(service, action);
        }
        Self::new(service, &format!("{method} {path}"))
    }
}

/// The function that made a call: the SDK's app name, which each function sets to its own.
pub(crate) fn caller(headers: &HeaderMap) -> Option<String> {
    ["user-agent", "x-amz-user-agent"]
        .into_iter()
        .filter_map(|name| text(headers, name))
        .flat_map(str::split_whitespace)
        .find_map(|part| part.strip_prefix("app/"))
        .map(ToOwned::to_owned)
}

fn service_of_shape(shape: &str) -> &str {
    const SHAPES: [(&str, &str); 9] = [
        ("AnyScaleFrontendService", "application-autoscaling"),
        ("AmazonEC2ContainerServiceV20141113", "ecs"),
        ("AmazonEC2ContainerRegistry_V20150921", "ecr"),
        ("AWSEvents", "events"),
        ("AWSStepFunctions", "states"),
        ("DynamoDB_20120810", "dynamodb"),
        ("GraniteServiceVersion20100801", "cloudwatch"),
        ("Route53AutoNaming_v20170314", "servicediscovery"),
        ("secretsmanager", "secretsmanager"),
    ];
    SHAPES
        .iter()
        .find(|(known, _)| *known == shape)
        .map_or(shape, |(_, service)| service)
}

/// The operation behind a path of App Mesh, without its `/v20190125/`.
fn app_mesh_operation(method: &Method, path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (many, one): ([&str; 2], [&str; 3]) = match parts.as_slice() {
        ["tags"] => return "ListTagsForResource",
        ["tag"] => return "TagResource",
        ["untag"] => return "UntagResource",
        ["meshes"] | ["meshes", _] => (
            ["ListMeshes", "CreateMesh"],
            ["DescribeMesh", "UpdateMesh", "DeleteMesh"],
        ),
        ["meshes", _, "virtualRouters", ..] => (
            ["ListVirtualRouters", "CreateVirtualRouter"],
            [
                "DescribeVirtualRouter",
                "UpdateVirtualRouter",
                "DeleteVirtualRouter",
            ],
        ),
        ["meshes", _, "virtualRouter", _, "routes", ..] => (
            ["ListRoutes", "CreateRoute"],
            ["DescribeRoute", "UpdateRoute", "DeleteRoute"],
        ),
        ["meshes", _, "virtualNodes", ..] => (
            ["ListVirtualNodes", "CreateVirtualNode"],
            [
                "DescribeVirtualNode",
                "UpdateVirtualNode",
                "DeleteVirtualNode",
            ],
        ),
        _ => return "unknown",
    };
    // A path names one thing when it ends with a name: meshes/{name}, meshes/{mesh}/virtualNodes/{name}, ...
    let names_one = parts.len().is_multiple_of(2);
    match (names_one, method.as_str()) {
        (false, "GET") => many[0],
        (false, "PUT") => many[1],
        (true, "GET") => one[0],
        (true, "PUT") => one[1],
        (true, "DELETE") => one[2],
        _ => "unknown",
    }
}

/// The service's name in the credential scope of a signature, `.../us-east-1/iam/aws4_request`.
fn credential_scope(headers: &HeaderMap) -> Option<&str> {
    text(headers, "authorization")?
        .split_once("Credential=")?
        .1
        .split(',')
        .next()?
        .split('/')
        .nth(3)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, Method};

    use super::{Operation, caller};

    #[test]
    fn app_mesh_paths_are_named_as_its_operations() {
        let cases = [
            (
                Method::GET,
                "meshes/demo/virtualRouters",
                "ListVirtualRouters",
            ),
            (
                Method::GET,
                "meshes/demo/virtualRouter/checkout/routes",
                "ListRoutes",
            ),
            (
                Method::GET,
                "meshes/demo/virtualRouter/checkout/routes/checkout",
                "DescribeRoute",
            ),
            (
                Method::PUT,
                "meshes/demo/virtualRouter/checkout/routes/checkout",
                "UpdateRoute",
            ),
            (Method::PUT, "meshes/demo/virtualNodes", "CreateVirtualNode"),
            (
                Method::DELETE,
                "meshes/demo/virtualNodes/checkout-canary",
                "DeleteVirtualNode",
            ),
            (Method::GET, "tags", "ListTagsForResource"),
        ];
        for (method, path, expected) in cases {
            let operation = Operation::of(
                &method,
                &format!("/v20190125/{path}"),
                &HeaderMap::new(),
                b"",
            );
            assert_eq!(
                operation,
                Operation::new("appmesh", expected),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn the_target_header_names_service_and_operation() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-amz-target",
            HeaderValue::from_static("AmazonEC2ContainerServiceV20141113.UpdateService"),
        );
        let operation = Operation::of(&Method::POST, "/", &headers, b"");
        assert_eq!(operation, Operation::new("ecs", "UpdateService"));
    }

    #[test]
    fn a_form_names_its_action() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/x-www-form-urlencoded"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/elasticloadbalancing/aws4_request, Signature=b",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let body = b"Action=ModifyRule&Version=2015-12-01&RuleArn=arn";
        let operation = Operation::of(&Method::POST, "/", &headers, body);
        assert_eq!(
            operation,
            Operation::new("elasticloadbalancing", "ModifyRule")
        );
    }

    #[test]
    fn the_caller_is_the_app_name_in_the_user_agent() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "user-agent",
            HeaderValue::from_static("aws-sdk-rust/1.3 os/linux lang/rust/1.94.1 app/shift-weight"),
        );
        assert_eq!(caller(&headers).as_deref(), Some("shift-weight"));
    }
}
