//! The SDK's clients, one per AWS service that Serin talks to.

/// One client per AWS service. Built from the environment in a Lambda, by `serin-sim` in tests.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Amazon ECS.
    pub ecs: aws_sdk_ecs::Client,
    /// AWS App Mesh.
    pub app_mesh: aws_sdk_appmesh::Client,
    /// Elastic Load Balancing: Application and Network Load Balancers.
    pub load_balancing: aws_sdk_elasticloadbalancingv2::Client,
    /// Application Auto Scaling.
    pub auto_scaling: aws_sdk_applicationautoscaling::Client,
    /// AWS Cloud Map.
    pub cloud_map: aws_sdk_servicediscovery::Client,
    /// Amazon CloudWatch.
    pub cloud_watch: aws_sdk_cloudwatch::Client,
    /// Amazon DynamoDB.
    pub dynamo_db: aws_sdk_dynamodb::Client,
    /// Amazon ECR.
    pub ecr: aws_sdk_ecr::Client,
    /// AWS Step Functions.
    pub step_functions: aws_sdk_sfn::Client,
    /// Amazon EventBridge.
    pub event_bridge: aws_sdk_eventbridge::Client,
    /// AWS Secrets Manager.
    pub secrets_manager: aws_sdk_secretsmanager::Client,
    /// Amazon SNS.
    pub sns: aws_sdk_sns::Client,
}
