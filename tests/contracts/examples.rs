//! The examples: the stacks that a user deploys beside Serin's own, against it and against what AWS knows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use serin::name::{baseline_family, canary_family};
use serin::{Family, Verdict};
use serin_driver::permissions::actions;
use serin_driver::template::one_or_many;
use serin_driver::{On, Simulation, request, yaml};

use super::{read, root, texts};

/// The folders below `examples/`.
pub(crate) const EXAMPLES: [&str; 3] = ["pipeline", "on-push", "appmesh-metrics"];

pub(crate) fn template_of(example: &str) -> Value {
    yaml::parse(&read(format!("examples/{example}/template.yaml")))
}

fn readme_of(example: &str) -> String {
    read(format!("examples/{example}/README.md"))
}

/// The resources of one type in an example, by logical name.
fn resources_of(example: &str, kind: &str) -> BTreeMap<String, Value> {
    let template = template_of(example);
    let resources = template["Resources"].as_object().unwrap().clone();
    resources
        .into_iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .collect()
}

fn properties(example: &str, resource: &str) -> Value {
    template_of(example)["Resources"][resource]["Properties"].clone()
}

/// What stands where a condition decides between it and nothing; anything else as it is.
fn chosen(value: &Value) -> Value {
    match value.get("!If") {
        Some(choice) if choice[2] == json!({ "!Ref": "AWS::NoValue" }) => choice[1].clone(),
        _ => value.clone(),
    }
}

/// The statements of a role, those that depend on a condition too.
fn statements(role: &Value) -> Vec<Value> {
    let policies = role["Properties"]["Policies"]
        .as_array()
        .expect("a policy of its own");
    policies
        .iter()
        .flat_map(|policy| {
            policy["PolicyDocument"]["Statement"]
                .as_array()
                .unwrap()
                .clone()
        })
        .map(|statement| chosen(&statement))
        .collect()
}

#[test]
fn every_folder_has_a_template_and_a_readme_and_the_readme_of_the_project_leads_there() {
    let folders: BTreeSet<_> = root()
        .join("examples")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, EXAMPLES.map(str::to_owned).into());
    for example in EXAMPLES {
        assert!(!template_of(example).is_null() && !readme_of(example).is_empty());
        let link = format!("(examples/{example}/README.md)");
        assert!(read("README.md").contains(&link), "{link}");
    }
}

/// The parameters that an example's README gives a value to.
fn parameters_in_the_readme(example: &str) -> BTreeSet<String> {
    let readme = readme_of(example);
    let words = readme.split_whitespace();
    let names = words.filter_map(|word| {
        word.trim_start_matches(['[', '\'', '"', '`'])
            .split_once('=')
    });
    names
        .map(|(name, _)| name.to_owned())
        .filter(|name| {
            name.starts_with(char::is_uppercase)
                && name.bytes().all(|letter| letter.is_ascii_alphanumeric())
                && name != "Name" // of a dimension
        })
        .collect()
}

#[test]
fn every_parameter_has_a_sentence_and_one_without_a_default_stands_in_the_readmes_command() {
    for example in EXAMPLES {
        let template = template_of(example);
        let parameters = template["Parameters"].as_object().unwrap();
        let in_the_readme = parameters_in_the_readme(example);
        for (name, parameter) in parameters {
            assert!(
                parameter["Description"]
                    .as_str()
                    .is_some_and(|sentence| sentence.ends_with('.')),
                "{example}: {name}"
            );
            assert!(
                !parameter["Default"].is_null() || in_the_readme.contains(name),
                "{example}: the command lacks {name}"
            );
        }
        for name in in_the_readme {
            assert!(parameters.contains_key(&name), "{example}: {name}");
        }
    }
}

/// What CodePipeline and CloudWatch call something that a README speaks of.
const WORDS_OF_AWS: [&str; 5] = [
    "ClusterName",
    "Stopped",
    "Stopping",
    "Superseded",
    "TaskDefinitionFamily",
];

#[test]
fn every_name_in_a_readme_is_one_of_the_template_or_an_error_of_a_step() {
    let errors: BTreeSet<_> = super::functions()
        .flat_map(|step| step.errors.iter().copied())
        .collect();
    for example in EXAMPLES {
        let template = template_of(example);
        let mut known: BTreeSet<_> = errors.iter().chain(&WORDS_OF_AWS).copied().collect();
        for section in ["Parameters", "Resources", "Outputs"] {
            known.extend(
                template[section]
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(String::as_str),
            );
        }
        for parameter in template["Parameters"].as_object().unwrap().values() {
            if let Some(values) = parameter["AllowedValues"].as_array() {
                known.extend(values.iter().filter_map(Value::as_str));
            }
        }
        let readme = readme_of(example);
        let names = readme.split('`').skip(1).step_by(2).filter(|piece| {
            piece.starts_with(char::is_uppercase)
                && piece.contains(char::is_lowercase)
                && piece.bytes().all(|letter| letter.is_ascii_alphanumeric())
        });
        for name in names {
            assert!(known.contains(name), "{example}: {name}");
        }
    }
}

/// What each role is for: who takes it on, and what that service calls with it.
const ROLES: &[(&str, &str, &str, &[&str])] = &[
    (
        "pipeline",
        "PipelineRole",
        "codepipeline.amazonaws.com",
        &[
            // the artifacts of each action
            "s3:GetBucketVersioning",
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:PutObject",
            "s3:PutObjectAcl",
            // the sources
            "codestar-connections:UseConnection",
            "codeconnections:UseConnection",
            "ecr:DescribeImages",
            // the build and the deployment
            "codebuild:StartBuild",
            "codebuild:BatchGetBuilds",
            "states:StartExecution",
            "states:DescribeExecution",
            "states:DescribeStateMachine",
        ],
    ),
    (
        "pipeline",
        "BuildRole",
        "codebuild.amazonaws.com",
        &[
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "s3:GetBucketAcl",
            "s3:GetBucketLocation",
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:PutObject",
            // docker login, docker push, and the digest
            "ecr:GetAuthorizationToken",
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:InitiateLayerUpload",
            "ecr:UploadLayerPart",
            "ecr:CompleteLayerUpload",
            "ecr:PutImage",
            "ecr:DescribeImages",
        ],
    ),
    (
        "pipeline",
        "StartPipeline",
        "events.amazonaws.com",
        &["codepipeline:StartPipelineExecution"],
    ),
    (
        "on-push",
        "StartSerin",
        "events.amazonaws.com",
        &["states:StartExecution"],
    ),
    (
        "appmesh-metrics",
        "AgentRole",
        "ecs-tasks.amazonaws.com",
        &[
            // the agent's discovery by task definitions
            "ecs:ListTasks",
            "ecs:DescribeTasks",
            "ecs:DescribeTaskDefinition",
            "ecs:DescribeContainerInstances",
            "ec2:DescribeInstances",
            // the records of which CloudWatch makes the metrics
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ],
    ),
    (
        "appmesh-metrics",
        "ExecutionRole",
        "ecs-tasks.amazonaws.com",
        &[
            "ssm:GetParameters",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ],
    ),
];

/// What IAM knows no resource for.
const KNOW_NO_RESOURCE: [&str; 4] = [
    "ec2:DescribeInstances",
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTasks",
];

#[test]
fn every_role_may_do_what_it_is_for_and_nothing_else() {
    for example in EXAMPLES {
        let table: BTreeSet<_> = ROLES
            .iter()
            .filter(|(of, ..)| *of == example)
            .map(|(_, role, ..)| (*role).to_owned())
            .collect();
        assert_eq!(
            resources_of(example, "AWS::IAM::Role")
                .into_keys()
                .collect::<BTreeSet<_>>(),
            table
        );
    }
    for (example, name, _, needed) in ROLES {
        let role = &resources_of(example, "AWS::IAM::Role")[*name];
        let granted: BTreeSet<_> = statements(role).iter().flat_map(actions).collect();
        let needed: BTreeSet<_> = needed.iter().map(|action| (*action).to_owned()).collect();
        assert_eq!(
            granted, needed,
            "{name}: granted on the left, needed on the right"
        );
        assert!(
            role["Properties"]["ManagedPolicyArns"].is_null(),
            "{name}: AWS's own policies allow more"
        );
        for statement in statements(role) {
            assert_eq!(statement["Effect"], "Allow");
            if one_or_many(&statement["Resource"]).contains(&json!("*")) {
                for action in actions(&statement) {
                    assert!(
                        KNOW_NO_RESOURCE.contains(&action.as_str()),
                        "{name}: {action} on everything"
                    );
                }
            }
        }
    }
}

#[test]
fn a_role_is_taken_on_by_one_service_and_on_behalf_of_this_account_only() {
    for (example, name, service, _) in ROLES {
        let role = properties(example, name);
        let trust = role["AssumeRolePolicyDocument"]["Statement"]
            .as_array()
            .unwrap()
            .clone();
        assert_eq!(trust.len(), 1, "{name}");
        assert_eq!(
            trust[0]["Principal"],
            json!({ "Service": service }),
            "{name}"
        );
        let account = &trust[0]["Condition"]["StringEquals"]["aws:SourceAccount"];
        if *service == "codepipeline.amazonaws.com" {
            assert!(
                account.is_null(),
                "AWS does not document that CodePipeline says whom it acts for; a condition on it might lock it out"
            );
        } else {
            assert_eq!(*account, json!({ "!Ref": "AWS::AccountId" }), "{name}");
        }
    }
}

#[test]
fn the_permissions_boundary_reaches_every_role() {
    let boundary = json!({ "!If": ["HasPermissionsBoundary", { "!Ref": "PermissionsBoundary" }, { "!Ref": "AWS::NoValue" }] });
    for (example, name, ..) in ROLES {
        assert_eq!(
            properties(example, name)["PermissionsBoundary"],
            boundary,
            "{name}"
        );
    }
}

#[test]
fn no_log_is_kept_for_ever() {
    let groups = EXAMPLES.map(|example| resources_of(example, "AWS::Logs::LogGroup").into_values());
    for group in groups.into_iter().flatten() {
        assert_eq!(
            group["Properties"]["RetentionInDays"],
            json!({ "!Ref": "LogRetentionDays" })
        );
    }
}

// The pipeline.

/// The actions that a pipeline of ours may have, by the action structure reference of CodePipeline
/// (<https://docs.aws.amazon.com/codepipeline/latest/userguide/action-reference.html>): category and provider, the configuration
/// keys that are needed, and the other ones.
const ACTIONS: &[(&str, &str, &[&str], &[&str])] = &[
    (
        "Source",
        "CodeStarSourceConnection",
        &["ConnectionArn", "FullRepositoryId", "BranchName"],
        &["OutputArtifactFormat", "DetectChanges"],
    ),
    ("Source", "ECR", &["RepositoryName"], &["ImageTag"]),
    (
        "Build",
        "CodeBuild",
        &["ProjectName"],
        &[
            "PrimarySource",
            "BatchEnabled",
            "BuildspecOverride",
            "CombineArtifacts",
            "EnvironmentVariables",
        ],
    ),
    (
        "Invoke",
        "StepFunctions",
        &["StateMachineArn"],
        &["ExecutionNamePrefix", "InputType", "Input"],
    ),
];

/// The pipeline's actions, with both sources.
fn pipeline_actions() -> Vec<Value> {
    let stages = properties("pipeline", "Pipeline")["Stages"].clone();
    let mut found = Vec::new();
    for action in stages
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|stage| stage["Actions"].as_array().unwrap())
    {
        match action.get("!If") {
            Some(choice) => found.extend([choice[1].clone(), choice[2].clone()]),
            None => found.push(action.clone()),
        }
    }
    found
}

fn action(provider: &str) -> Value {
    pipeline_actions()
        .into_iter()
        .find(|action| action["ActionTypeId"]["Provider"] == provider)
        .unwrap_or_else(|| panic!("no action has the provider {provider}"))
}

#[test]
fn the_pipeline_has_only_actions_and_configuration_keys_that_exist() {
    let mut providers = BTreeSet::new();
    for action in pipeline_actions() {
        let kind = &action["ActionTypeId"];
        let provider = kind["Provider"].as_str().unwrap();
        let (category, _, needed, others) = ACTIONS
            .iter()
            .find(|(_, name, ..)| *name == provider)
            .unwrap_or_else(|| panic!("the table has no {provider}"));
        assert_eq!(
            *kind,
            json!({ "Category": category, "Owner": "AWS", "Provider": provider, "Version": "1" })
        );
        let keys = action["Configuration"].as_object().unwrap();
        for key in keys.keys() {
            assert!(
                needed.contains(&key.as_str()) || others.contains(&key.as_str()),
                "{provider} knows no {key}"
            );
        }
        for key in *needed {
            assert!(keys.contains_key(*key), "{provider} needs {key}");
        }
        providers.insert(provider.to_owned());
    }
    assert_eq!(providers.len(), ACTIONS.len());
}

#[test]
fn the_pipeline_starts_serin_with_the_file_that_the_build_writes() {
    let deploy = action("StepFunctions");
    let configuration = &deploy["Configuration"];
    assert_eq!(
        configuration["StateMachineArn"],
        json!({ "!Ref": "StateMachineArn" })
    );
    assert_eq!(
        configuration["InputType"], "FilePath",
        "a literal has at most 1,000 characters"
    );
    assert_eq!(
        deploy["InputArtifacts"],
        action("CodeBuild")["OutputArtifacts"]
    );
    assert_eq!(
        build_specification()["artifacts"]["files"],
        json!([configuration["Input"]])
    );
}

/// The build's own specification.
pub(crate) fn build_specification() -> Value {
    yaml::parse(
        properties("pipeline", "Build")["Source"]["BuildSpec"]
            .as_str()
            .unwrap(),
    )
}

#[test]
fn the_name_of_an_execution_has_room_for_its_prefix() {
    let pattern = template_of("pipeline")["Parameters"]["ExecutionNamePrefix"]["AllowedPattern"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, longest) = pattern.split_once("{0,").unwrap();
    let longest: usize = longest.trim_end_matches('}').parse().unwrap();
    let action_execution = "1624a1d1-3699-43f0-8e1e-6bafd7fde791";
    assert_eq!(
        longest + 1 + action_execution.len(),
        80,
        "as long as Step Functions allows"
    );
}

#[test]
fn a_newer_execution_waits_for_the_deployment_and_none_starts_by_itself_after_a_failure() {
    let pipeline = properties("pipeline", "Pipeline");
    assert_eq!(
        (&pipeline["PipelineType"], &pipeline["ExecutionMode"]),
        (&json!("V2"), &json!("SUPERSEDED"))
    );
    for stage in pipeline["Stages"].as_array().unwrap() {
        assert!(stage["OnFailure"].is_null(), "{}", stage["Name"]);
    }
}

#[test]
fn the_pipelines_role_has_what_the_stack_of_serin_tells_it_to_have() {
    let output = super::template::template()["Outputs"]["PipelineRoleStatement"]["Value"]["!Sub"]
        .as_str()
        .unwrap()
        .to_owned();
    let told: Value = serde_json::from_str(&output).unwrap();
    let role = &resources_of("pipeline", "AWS::IAM::Role")["PipelineRole"];
    let statement = statements(role)
        .into_iter()
        .find(|statement| actions(statement).contains(&"states:StartExecution".to_owned()))
        .unwrap();
    assert_eq!(actions(&statement), actions(&told));
    assert_eq!(
        one_or_many(&statement["Resource"]).len(),
        one_or_many(&told["Resource"]).len()
    );
    assert_eq!(
        statement["Resource"][0],
        json!({ "!Ref": "StateMachineArn" })
    );
}

#[test]
fn nobody_but_the_account_reads_the_artifacts_and_they_do_not_stay_for_ever() {
    let bucket = properties("pipeline", "Artifacts");
    let blocked = bucket["PublicAccessBlockConfiguration"]
        .as_object()
        .unwrap();
    assert!(blocked.len() == 4 && blocked.values().all(|value| *value == true));
    assert!(
        bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
            ["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
            .is_string()
    );
    let rule = &bucket["LifecycleConfiguration"]["Rules"][0];
    assert_eq!(rule["Status"], "Enabled");
    assert_eq!(
        rule["ExpirationInDays"],
        json!({ "!Ref": "ArtifactRetentionDays" })
    );
    let policy = properties("pipeline", "ArtifactsPolicy");
    let statement = &policy["PolicyDocument"]["Statement"];
    assert_eq!(
        (
            &statement[0]["Effect"],
            &statement[0]["Action"],
            &statement[0]["Condition"]
        ),
        (
            &json!("Deny"),
            &json!("s3:*"),
            &json!({ "Bool": { "aws:SecureTransport": "false" } })
        )
    );
    assert_eq!(statement.as_array().unwrap().len(), 1, "it allows nothing");
}

#[test]
fn docker_has_its_way_only_where_something_is_built() {
    let environment = properties("pipeline", "Build")["Environment"].clone();
    assert_eq!(
        environment["PrivilegedMode"],
        json!({ "!If": ["Builds", true, false] })
    );
}

// The rules.

/// The pattern of a rule on pushes: this account's, this Region's, this repository's, and only what has the tag.
fn pattern(repository: &str, tag: &Value) -> Value {
    json!({
        "source": ["aws.ecr"],
        "account": [{ "!Ref": "AWS::AccountId" }],
        "region": [{ "!Ref": "AWS::Region" }],
        "detail-type": ["ECR Image Action"],
        "detail": {
            "action-type": ["PUSH"],
            "result": ["SUCCESS"],
            "repository-name": [{ "!Ref": repository }],
            "image-tag": [tag],
        },
    })
}

#[test]
fn a_rule_starts_something_only_for_a_push_that_succeeded_and_has_the_tag() {
    for (example, repository, tag) in [
        ("pipeline", "ImageRepository", json!({ "!Ref": "ImageTag" })),
        (
            "on-push",
            "Repository",
            json!({ "wildcard": { "!Ref": "Tag" } }),
        ),
    ] {
        let rules = resources_of(example, "AWS::Events::Rule");
        assert_eq!(rules.keys().collect::<Vec<_>>(), ["Push"]);
        assert_eq!(
            rules["Push"]["Properties"]["EventPattern"],
            pattern(repository, &tag)
        );
    }
}

#[test]
fn a_pipeline_gets_the_image_that_was_pushed_and_not_what_the_tag_means_later() {
    let rule = properties("pipeline", "Push");
    let transformer = &rule["Targets"][0]["InputTransformer"];
    let input: Value =
        serde_json::from_str(transformer["InputTemplate"].as_str().unwrap()).unwrap();
    assert_eq!(
        input,
        json!({ "sourceRevisions": [
            { "actionName": action("ECR")["Name"], "revisionType": "IMAGE_DIGEST", "revisionValue": "<digest>" },
        ]})
    );
    assert_eq!(
        transformer["InputPathsMap"],
        json!({ "digest": "$.detail.image-digest" })
    );
}

#[test]
fn a_push_that_cannot_be_handed_over_is_kept_and_raises_an_alarm() {
    let rule = properties("on-push", "Push");
    let target = &rule["Targets"][0];
    assert_eq!(target["Arn"], json!({ "!Ref": "StateMachineArn" }));
    assert_eq!(
        target["DeadLetterConfig"]["Arn"],
        json!({ "!GetAtt": "Undelivered.Arn" })
    );
    let oldest = target["RetryPolicy"]["MaximumEventAgeInSeconds"]
        .as_u64()
        .unwrap();
    assert!(oldest <= 3600, "a late push might come after a newer one");
    let policy = properties("on-push", "UndeliveredPolicy");
    let allowed = &policy["PolicyDocument"]["Statement"][0];
    assert_eq!(allowed["Action"], "sqs:SendMessage");
    assert_eq!(
        allowed["Condition"],
        json!({ "ArnEquals": { "aws:SourceArn": { "!GetAtt": "Push.Arn" } } })
    );
    let alarm = properties("on-push", "UndeliveredAlarm");
    assert_eq!(
        alarm["Dimensions"],
        json!([{ "Name": "QueueName", "Value": { "!GetAtt": "Undelivered.QueueName" } }])
    );
}

// The metrics of App Mesh.

/// What the agent is told.
fn agent() -> Value {
    let text = properties("appmesh-metrics", "AgentConfiguration")["Value"]["!Sub"]
        .as_str()
        .unwrap()
        .to_owned();
    serde_json::from_str::<Value>(&text).unwrap()["logs"]["metrics_collected"]["prometheus"].clone()
}

/// A series that the adapter has asked for, as its evidence names it: `Sum of METRIC {NAME=VALUE, ...} in NAMESPACE`.
struct Asked {
    metric: String,
    namespace: String,
    dimensions: Vec<(String, String)>,
}

impl Asked {
    #[track_caller]
    fn read(text: &str) -> Self {
        let rest = text.strip_prefix("Sum of ").unwrap();
        let (metric, rest) = rest.split_once(" {").unwrap();
        let (dimensions, namespace) = rest.split_once("} in ").unwrap();
        let pair = |dimension: &str| {
            let (name, value) = dimension.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Self {
            metric: metric.to_owned(),
            namespace: namespace.to_owned(),
            dimensions: dimensions.split(", ").map(pair).collect(),
        }
    }

    fn names(&self) -> Vec<&str> {
        let names = self.dimensions.iter().map(|(name, _)| name.as_str());
        names.collect()
    }

    #[track_caller]
    fn value(&self, name: &str) -> &str {
        let found = self.dimensions.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("{name} is not asked for")).1
    }
}

#[tokio::test]
async fn the_agent_publishes_the_one_metric_that_is_asked_for_with_the_dimensions_by_which_it_is_asked_for()
 {
    let simulation = Simulation::new(On::AppMesh);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    let verdict: Verdict = deployed.assert_promoted().report().verdict.unwrap();
    let rate = verdict
        .findings
        .iter()
        .find(|finding| finding.name == "errorRatePercent")
        .unwrap();
    let (errors, requests) = rate.query.split_once(" / ").unwrap();
    let (errors, requests) = (Asked::read(errors), Asked::read(requests));

    let processor = &agent()["emf_processor"];
    assert_eq!(processor["metric_namespace"], errors.namespace.as_str());
    let declarations = processor["metric_declaration"].as_array().unwrap();
    assert_eq!(
        declarations.len(),
        1,
        "anything more would only be paid for"
    );
    let declaration = &declarations[0];
    assert_eq!(
        declaration["metric_selectors"],
        json!([format!("^{}$", errors.metric)])
    );
    assert_eq!(declaration["dimensions"], json!([errors.names()]));
    assert_eq!(errors.names(), requests.names());

    // Only what matches is published: what came in, and the classes that are counted.
    let classes: Vec<_> = requests
        .value("envoy_response_code_class")
        .split('|')
        .collect();
    assert!(classes.contains(&errors.value("envoy_response_code_class")));
    let range = format!("[{}-{}]", classes[0], classes[classes.len() - 1]);
    let of_range: Vec<_> = (2..=5).map(|class: u8| class.to_string()).collect();
    assert_eq!(classes, of_range);
    assert_eq!(
        texts(&declaration["source_labels"])[1..],
        [
            "envoy_http_conn_manager_prefix",
            "envoy_response_code_class"
        ]
    );
    let prefix = errors.value("envoy_http_conn_manager_prefix");
    assert_eq!(
        declaration["label_matcher"],
        format!("^${{Proxy}};{prefix};{range}$")
    );
}

#[test]
fn the_agent_finds_the_envoys_of_canaries_and_baselines_too() {
    let found = &agent()["ecs_service_discovery"]["task_definition_list"];
    assert_eq!(found.as_array().unwrap().len(), 1);
    let canary = canary_family(&Family::new("checkout"));
    let baseline = baseline_family(&Family::new("checkout"));
    let [canary, baseline] =
        [canary, baseline].map(|family| family.as_str().replace("checkout", ""));
    assert_eq!(
        found[0]["sd_task_definition_arn_pattern"],
        format!(".*:task-definition/(${{Families}})({canary}|{baseline})?:[0-9]+$")
    );
    assert_eq!(
        (&found[0]["sd_metrics_ports"], &found[0]["sd_metrics_path"]),
        (&json!("9901"), &json!("/stats/prometheus"))
    );
    let scraped = properties("appmesh-metrics", "ScrapeConfiguration")["Value"].clone();
    let scraped = yaml::parse(scraped.as_str().unwrap());
    assert_eq!(
        scraped["scrape_configs"][0]["file_sd_configs"][0]["files"],
        json!([agent()["ecs_service_discovery"]["sd_result_file"]])
    );
    assert_eq!(scraped["global"]["scrape_interval"], "1m");
}

#[test]
fn there_are_never_two_agents_that_count_the_same() {
    let agent = properties("appmesh-metrics", "Agent");
    assert_eq!(agent["DesiredCount"], 1);
    assert_eq!(
        (
            &agent["DeploymentConfiguration"]["MaximumPercent"],
            &agent["DeploymentConfiguration"]["MinimumHealthyPercent"]
        ),
        (&json!(100), &json!(0))
    );
}

#[test]
fn nobody_can_connect_to_the_agent_and_only_the_agent_to_envoys_statistics() {
    let agent = properties("appmesh-metrics", "AgentSecurityGroup");
    assert!(agent["SecurityGroupIngress"].is_null());
    let out: Vec<_> = agent["SecurityGroupEgress"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (&rule["FromPort"], &rule["ToPort"]))
        .collect();
    assert_eq!(
        out,
        [(&json!(9901), &json!(9901)), (&json!(443), &json!(443))]
    );
    let ingress = resources_of("appmesh-metrics", "AWS::EC2::SecurityGroupIngress");
    assert_eq!(
        ingress.keys().collect::<Vec<_>>(),
        ["StatisticsForTheAgent"]
    );
    let rule = &ingress["StatisticsForTheAgent"]["Properties"];
    assert_eq!(
        (&rule["GroupId"], &rule["SourceSecurityGroupId"]),
        (
            &json!({ "!Ref": "EnvoySecurityGroup" }),
            &json!({ "!Ref": "AgentSecurityGroup" })
        )
    );
    assert_eq!(
        (&rule["FromPort"], &rule["ToPort"]),
        (&json!(9901), &json!(9901))
    );
    assert!(rule["CidrIp"].is_null());
}
