//! The errors with which AWS documents that an operation can be refused, as far as a deployment can meet them. Wrong input is
//! none of them: the adapters' own tests have that; nor is that something is not found which is there.

/// By operation, the service's name before it where two have one of that name: the error's name and a sentence.
type Table = &'static [(&'static str, &'static [(&'static str, &'static str)])];

const ECS: &[(&str, &str)] = &[("ClientException", "The action cannot be performed now.")];

const MESH: &[(&str, &str)] = &[
    ("ServiceUnavailableException", "The service is unavailable."),
    ("BadRequestException", "The request is malformed."),
];

const SCALING: &[(&str, &str)] = &[
    (
        "ConcurrentUpdateException",
        "Another update is in progress.",
    ),
    ("ValidationException", "The resource is not valid."),
];

const LEDGER: &[(&str, &str)] = &[
    (
        "ProvisionedThroughputExceededException",
        "The level of throughput was exceeded.",
    ),
    (
        "RequestLimitExceeded",
        "Throughput exceeds the current limit for your account.",
    ),
    ("ResourceNotFoundException", "Requested resource not found"),
];

const TABLE: Table = &[
    ("DescribeServices", ECS),
    ("DescribeTaskDefinition", ECS),
    ("RegisterTaskDefinition", ECS),
    ("DeregisterTaskDefinition", ECS),
    ("ListTasks", ECS),
    ("DescribeTasks", ECS),
    (
        "ECS CreateService",
        &[
            ("ClientException", "The action cannot be performed now."),
            (
                "PlatformTaskDefinitionIncompatibilityException",
                "The platform does not support it.",
            ),
            (
                "UnsupportedFeatureException",
                "The feature is not supported here.",
            ),
            (
                "InvalidParameterException",
                "The target group does not have an associated load balancer.",
            ),
        ],
    ),
    (
        "UpdateService",
        &[
            ("ClientException", "The action cannot be performed now."),
            ("ServiceNotActiveException", "Service was not ACTIVE."),
            (
                "AccessDeniedException",
                "A service control policy denies it.",
            ),
        ],
    ),
    (
        "ECS DeleteService",
        &[
            ("ClientException", "The action cannot be performed now."),
            (
                "InvalidParameterException",
                "The service cannot be stopped while deployments are active.",
            ),
        ],
    ),
    ("DescribeRoute", MESH),
    ("DescribeVirtualNode", MESH),
    ("ListRoutes", MESH),
    ("ListVirtualRouters", MESH),
    ("App Mesh ListTagsForResource", MESH),
    (
        "UpdateRoute",
        &[
            ("ConflictException", "The client token was used before."),
            ("LimitExceededException", "A quota is exceeded."),
            ("ServiceUnavailableException", "The service is unavailable."),
            ("BadRequestException", "The request is malformed."),
        ],
    ),
    (
        "CreateVirtualNode",
        &[
            ("ConflictException", "The resource exists already."),
            ("LimitExceededException", "A quota is exceeded."),
            ("ServiceUnavailableException", "The service is unavailable."),
        ],
    ),
    (
        "DeleteVirtualNode",
        &[
            ("ResourceInUseException", "The virtual node is in use."),
            ("ServiceUnavailableException", "The service is unavailable."),
        ],
    ),
    (
        "DescribeTargetHealth",
        &[(
            "HealthUnavailable",
            "The health of the targets is not available.",
        )],
    ),
    (
        "CreateTargetGroup",
        &[
            (
                "TooManyTargetGroups",
                "The limit of target groups has been reached.",
            ),
            (
                "DuplicateTargetGroupName",
                "A target group with the name exists already.",
            ),
        ],
    ),
    (
        "ModifyRule",
        &[
            ("OperationNotPermitted", "This operation is not allowed."),
            ("PriorityInUse", "The priority is in use."),
            ("TooManyActions", "The limit of actions has been reached."),
            (
                "TooManyUniqueTargetGroupsPerLoadBalancer",
                "The limit of target groups per load balancer has been reached.",
            ),
            (
                "TargetGroupAssociationLimit",
                "The limit of associations has been reached.",
            ),
        ],
    ),
    (
        "ModifyListener",
        &[
            ("TooManyActions", "The limit of actions has been reached."),
            (
                "TooManyUniqueTargetGroupsPerLoadBalancer",
                "The limit of target groups per load balancer has been reached.",
            ),
        ],
    ),
    (
        "DeleteTargetGroup",
        &[(
            "ResourceInUse",
            "The target group is currently in use by a listener or a rule.",
        )],
    ),
    (
        "AddTags",
        &[("TooManyTags", "The limit of tags has been reached.")],
    ),
    (
        "ListServices",
        &[("InvalidInput", "The input is not valid.")],
    ),
    (
        "Cloud Map CreateService",
        &[
            ("ResourceLimitExceeded", "The quota of services is reached."),
            ("ServiceAlreadyExists", "The service exists already."),
        ],
    ),
    (
        "Cloud Map DeleteService",
        &[("ResourceInUse", "The service still has instances.")],
    ),
    ("DescribeScalableTargets", SCALING),
    (
        "RegisterScalableTarget",
        &[
            (
                "ConcurrentUpdateException",
                "Another update is in progress.",
            ),
            ("LimitExceededException", "A quota is exceeded."),
            ("ValidationException", "The resource is not valid."),
        ],
    ),
    (
        "GetMetricData",
        &[("InvalidNextToken", "The token is not valid.")],
    ),
    (
        "DescribeAlarms",
        &[("InvalidNextToken", "The token is not valid.")],
    ),
    ("GetItem", LEDGER),
    ("PutItem", LEDGER),
    (
        "PutEvents",
        &[("InternalException", "An internal error occurred.")],
    ),
    ("UpdateItem", LEDGER),
    ("Scan", LEDGER),
    (
        "DescribeImages",
        &[
            ("ImageNotFoundException", "The image was not found."),
            (
                "RepositoryNotFoundException",
                "The repository was not found.",
            ),
        ],
    ),
    (
        "StartExecution",
        &[(
            "ExecutionLimitExceeded",
            "The maximum number of running executions has been reached.",
        )],
    ),
];

/// The errors with which a call of this service and operation can be refused.
pub fn refusals(service: &str, operation: &str) -> &'static [(&'static str, &'static str)] {
    let full = format!("{service} {operation}");
    TABLE
        .iter()
        .find(|(name, _)| *name == operation || *name == full)
        .map(|(_, errors)| *errors)
        .unwrap_or_default()
}
