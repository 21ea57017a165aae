//! The templates, with the programs that `cargo xtask` installs: linted by cfn-lint, and the examples created in moto's
//! CloudFormation.
//!
//! `create.py` creates a stack and says what came of it; what that must be is said here. It shows that references, conditions and
//! names fit together and that the requests are well formed, not that AWS does what is hoped for. What moto's CloudFormation does
//! not know, `create.py` creates by the service's own API, each member checked against botocore's model of it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use serin::Request;
use serin_driver::project::{read, root};

use crate::contracts::examples::{EXAMPLES, build_specification, template_of};

const REGION: &str = "eu-west-1";
const MACHINE: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:serin-canary-deployment";
const DIGEST: &str = "sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd12345678";

/// A program that `cargo xtask` has installed.
fn program(name: &str) -> PathBuf {
    let program = root().join(".local/venv/bin").join(name);
    assert!(
        program.exists(),
        "{} is not there; `cargo xtask test` installs it",
        program.display()
    );
    program
}

/// Runs a program, with this on its standard input.
fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn cfn_lint_finds_no_fault_in_any_template() {
    let examples = EXAMPLES.map(|example| format!("examples/{example}/template.yaml"));
    let output = run(
        Command::new(program("cfn-lint"))
            .args(["--regions", "eu-west-1", "--template", "template.yaml"])
            .args(examples)
            .current_dir(root()),
        b"",
    );
    assert!(output.status.success(), "{}", text(&output.stdout));
}

/// The commands of the AWS CLI in a document: those in blocks of shell, and those between backticks.
fn aws_commands(document: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for line in read(document).replace("\\\n", " ").lines() {
        let mut rest = line;
        while let Some(at) = rest.find("aws ") {
            let before = rest[..at].chars().next_back();
            let inside = &rest[at..];
            // It ends where what it stands in does: a substitution, backticks, a pipe, the line.
            let end = match before {
                Some('`') => inside.find('`'),
                Some('(') => inside
                    .rfind(')')
                    .map(|end| inside.find(" | ").map_or(end, |pipe| pipe.min(end))),
                None | Some(' ') if !line.starts_with(['|', '-', '#']) => Some(inside.len()),
                _ => None,
            };
            let is_one = inside[4..].starts_with(|letter: char| letter.is_ascii_lowercase());
            if let Some(end) = end.filter(|_| is_one && inside.contains("--")) {
                commands.push(inside[..end].to_owned());
            }
            rest = &inside[end.unwrap_or(4).max(4)..];
        }
    }
    commands
}

#[test]
fn every_command_of_the_aws_cli_in_the_documents_names_an_operation_and_options_that_exist() {
    let documents = [
        "README.md",
        "examples/pipeline/README.md",
        "examples/on-push/README.md",
        "examples/appmesh-metrics/README.md",
    ];
    let commands: Vec<_> = documents.into_iter().flat_map(aws_commands).collect();
    assert!(commands.len() > 6, "{commands:#?}");
    let output = run(
        Command::new(program("python")).arg(root().join("tests/stacks/commands.py")),
        commands.join("\n").as_bytes(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
}

/// What came of a stack.
#[track_caller]
fn created(example: &str, parameters: &Value, events: &[Value]) -> Value {
    created_in(REGION, example, parameters, events)
}

/// What came of a stack in a Region.
#[track_caller]
pub(crate) fn created_in(
    region: &str,
    example: &str,
    parameters: &Value,
    events: &[Value],
) -> Value {
    let input = json!({
        "region": region,
        "template": read(format!("examples/{example}/template.yaml")),
        "parameters": parameters,
        "events": events,
    });
    let output = run(
        Command::new(program("python")).arg(root().join("tests/stacks/create.py")),
        input.to_string().as_bytes(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stack: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(stack["status"], "CREATE_COMPLETE");
    let outputs = template_of(example)["Outputs"].as_object().unwrap().clone();
    assert_eq!(
        stack["outputs"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        outputs.keys().collect::<Vec<_>>()
    );
    stack
}

/// The resources that were created, by logical name.
fn resources(stack: &Value) -> BTreeSet<String> {
    let resources = stack["resources"].as_object().unwrap();
    // moto lists what a condition leaves out, without a name.
    let names = resources.keys().filter(|name| !name.is_empty());
    names.cloned().collect()
}

/// The resources of an example, but these.
fn all_but(example: &str, without: &[&str]) -> BTreeSet<String> {
    let template = template_of(example);
    let names = template["Resources"].as_object().unwrap().keys();
    names
        .filter(|name| !without.contains(&name.as_str()))
        .cloned()
        .collect()
}

/// The usual parameters of what deploys `checkout`, and these.
fn parameters(more: &Value) -> Value {
    let mut parameters =
        json!({ "StateMachineArn": MACHINE, "Cluster": "prod", "Service": "checkout" });
    let all = parameters.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    parameters
}

fn image_push() -> Value {
    parameters(&json!({ "Source": "ImagePush", "ImageRepository": "checkout" }))
}

fn repository() -> Value {
    parameters(&json!({
        "Source": "Repository", "ImageRepository": "checkout", "RepositoryId": "shop/checkout",
        "ConnectionArn": "arn:aws:codeconnections:eu-west-1:123456789012:connection/0a1b2c3d",
    }))
}

/// An event as Amazon ECR sends it when a manifest was pushed, with these changes.
pub(crate) fn push(tag: Option<&str>, changes: &Value) -> Value {
    let mut detail = json!({
        "result": "SUCCESS", "repository-name": "checkout", "image-digest": DIGEST, "action-type": "PUSH",
        "manifest-media-type": "application/vnd.oci.image.index.v1+json",
    });
    if let Some(tag) = tag {
        detail["image-tag"] = tag.into();
    }
    let mut event = json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action", "source": "aws.ecr",
        "account": "123456789012", "time": "2026-11-16T01:54:34Z", "region": REGION, "resources": [], "detail": detail,
    });
    for (name, value) in changes.as_object().unwrap() {
        let place = if event.get(name).is_some() {
            &mut event
        } else {
            &mut event["detail"]
        };
        place[name] = value.clone();
    }
    event
}

#[test]
fn the_pipeline_is_created_with_either_source() {
    for (parameters, without, source) in [
        (image_push(), &[][..], "ECR"),
        (
            repository(),
            &["Push", "StartPipeline"][..],
            "CodeStarSourceConnection",
        ),
    ] {
        let stack = created("pipeline", &parameters, &[]);
        assert_eq!(resources(&stack), all_but("pipeline", without));
        assert_eq!(
            stack["standIns"],
            json!([
                "AWS::CodeBuild::Project",
                "AWS::CodePipeline::Pipeline",
                "AWS::S3::BucketPolicy"
            ])
        );
        let pipeline = &stack["pipelines"][0];
        assert_eq!(
            (&pipeline["pipelineType"], &pipeline["executionMode"]),
            (&json!("V2"), &json!("SUPERSEDED"))
        );
        let providers: Vec<_> = pipeline["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["actions"][0]["actionTypeId"]["provider"].clone())
            .collect();
        assert_eq!(providers, [source, "CodeBuild", "StepFunctions"]);
        assert_eq!(
            pipeline["stages"][2]["actions"][0]["configuration"],
            json!({ "StateMachineArn": MACHINE, "ExecutionNamePrefix": "checkout", "InputType": "FilePath", "Input": "deploy.json" })
        );
        assert_artifacts_flow(pipeline);
    }
}

/// Every action reads what an earlier one has written.
fn assert_artifacts_flow(pipeline: &Value) {
    let mut written = BTreeSet::new();
    for stage in pipeline["stages"].as_array().unwrap() {
        let action = &stage["actions"][0];
        for input in action["inputArtifacts"].as_array().unwrap() {
            assert!(written.contains(&input["name"].to_string()), "{input}");
        }
        for output in action["outputArtifacts"].as_array().unwrap() {
            assert!(written.insert(output["name"].to_string()), "{output}");
        }
    }
}

#[test]
fn a_role_is_allowed_only_what_its_source_needs() {
    let allowed = |parameters: &Value, role: &str| -> String {
        let stack = created("pipeline", parameters, &[]);
        let roles = stack["roles"].as_object().unwrap().clone();
        let found = roles
            .into_iter()
            .find(|(name, _)| name.starts_with(&format!("example-{role}-")));
        found.unwrap().1["allows"].to_string()
    };
    let build = allowed(&image_push(), "BuildRole");
    assert!(!build.contains("ecr:"), "it builds nothing: {build}");
    let pipeline = allowed(&image_push(), "PipelineRole");
    assert!(!pipeline.contains("UseConnection"), "{pipeline}");
    let pipeline = allowed(&repository(), "PipelineRole");
    assert!(!pipeline.contains("ecr:"), "{pipeline}");
    let executions = "arn:aws:states:eu-west-1:123456789012:execution:serin-canary-deployment:*";
    assert!(pipeline.contains(executions), "{pipeline}");
}

/// Pushes, and whether the tag that is deployed is among what was pushed.
fn pushes() -> Vec<(Value, bool)> {
    let none = json!({});
    vec![
        // An image for two architectures: two manifests and an attestation without a tag, and the list of them.
        (push(None, &json!({ "image-digest": "sha256:01" })), false),
        (push(None, &json!({ "image-digest": "sha256:02" })), false),
        (push(None, &json!({ "image-digest": "sha256:03" })), false),
        (push(Some("release-1"), &none), true),
        (push(Some("nightly"), &none), false),
        (
            push(Some("release-1"), &json!({ "result": "FAILURE" })),
            false,
        ),
        (
            push(Some("release-1"), &json!({ "action-type": "DELETE" })),
            false,
        ),
        (
            push(Some("release-1"), &json!({ "repository-name": "cart" })),
            false,
        ),
        (
            push(Some("release-1"), &json!({ "account": "111122223333" })),
            false,
        ),
        (
            push(Some("release-1"), &json!({ "region": "eu-north-1" })),
            false,
        ),
        (
            push(
                Some("release-1"),
                &json!({ "detail-type": "ECR Image Scan" }),
            ),
            false,
        ),
    ]
}

/// The numbers of the events that start something.
fn starting() -> Value {
    let numbers = pushes().into_iter().enumerate();
    numbers
        .filter(|(_, (_, starts))| *starts)
        .map(|(number, _)| number)
        .collect()
}

fn events() -> Vec<Value> {
    pushes().into_iter().map(|(event, _)| event).collect()
}

/// The input that a target gets of an event.
pub(crate) fn input(target: &Value, event: &Value) -> Value {
    let transformer = &target["InputTransformer"];
    let mut template = transformer["InputTemplate"].as_str().unwrap().to_owned();
    for (name, path) in transformer["InputPathsMap"].as_object().unwrap() {
        let pointer = path
            .as_str()
            .unwrap()
            .trim_start_matches('$')
            .replace('.', "/");
        let value = event.pointer(&pointer).unwrap().as_str().unwrap();
        template = template.replace(&format!("<{name}>"), value);
    }
    serde_json::from_str(&template).unwrap_or_else(|error| panic!("{error}: {template}"))
}

#[test]
fn one_push_of_an_image_for_several_architectures_starts_one_deployment_with_a_request_that_serin_accepts()
 {
    let settings = json!({ "Repository": "checkout", "Tag": "release-*", "Fields": r#""plan": {"preset": "ECSAllAtOnce"}, "capacity": "full""# });
    let stack = created("on-push", &parameters(&settings), &events());
    assert_eq!(resources(&stack), all_but("on-push", &[]));
    assert_eq!(
        stack["standIns"],
        json!(["AWS::CloudWatch::Alarm", "AWS::SQS::QueuePolicy"])
    );
    let rule = &stack["rules"][0];
    assert_eq!(rule["matches"], starting());
    let target = &rule["targets"][0];
    assert_eq!(target["Arn"], MACHINE);
    let started = input(target, &push(Some("release-1"), &json!({})));
    let image = format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout@{DIGEST}");
    assert_eq!(
        started,
        json!({ "cluster": "prod", "service": "checkout", "image": image,
            "onConflict": "reject", "ifUnchanged": "refuse",
            "plan": { "preset": "ECSAllAtOnce" }, "capacity": "full" })
    );
    Request::parse(&started).unwrap();
    assert_trusts_its_own_rule(&stack);
}

#[test]
fn without_more_fields_the_request_is_the_shortest_there_is() {
    let settings = json!({ "Repository": "checkout", "Tag": "release-1" });
    let stack = created("on-push", &parameters(&settings), &events());
    let rule = &stack["rules"][0];
    assert_eq!(rule["matches"], starting(), "a tag without a * is itself");
    let started = input(&rule["targets"][0], &push(Some("release-1"), &json!({})));
    assert_eq!(started.as_object().unwrap().len(), 5);
    Request::parse(&started).unwrap();
}

#[test]
fn one_push_starts_the_pipeline_once() {
    let mut settings = image_push();
    settings["ImageTag"] = "release-1".into();
    let stack = created("pipeline", &settings, &events());
    let rule = &stack["rules"][0];
    assert_eq!(rule["matches"], starting());
    let target = &rule["targets"][0];
    let pipeline = stack["pipelines"][0]["name"].as_str().unwrap();
    assert_eq!(
        target["Arn"],
        format!("arn:aws:codepipeline:eu-west-1:123456789012:{pipeline}")
    );
    let started = input(target, &push(Some("release-1"), &json!({})));
    assert_eq!(started["sourceRevisions"][0]["revisionValue"], DIGEST);
    assert_trusts_its_own_rule(&stack);
}

/// The role of a rule's target may be taken on for that rule only.
fn assert_trusts_its_own_rule(stack: &Value) {
    let rule = &stack["rules"][0];
    let role = rule["targets"][0]["RoleArn"].as_str().unwrap();
    let (_, name) = role.rsplit_once('/').unwrap();
    assert_eq!(
        stack["roles"][name]["trusts"][0]["Condition"]["StringEquals"]["aws:SourceArn"],
        rule["arn"]
    );
}

#[test]
fn the_agent_of_a_cluster_is_created_with_its_configuration() {
    let settings = json!({
        "Cluster": "prod", "Vpc": "{vpc}", "Subnets": "{subnet}", "EnvoySecurityGroup": "{securityGroup}",
        "Families": "checkout|cart",
    });
    let stack = created("appmesh-metrics", &settings, &[]);
    assert_eq!(resources(&stack), all_but("appmesh-metrics", &[]));
    assert_eq!(stack["standIns"], json!([]));
    let agent: Value =
        serde_json::from_str(stack["parameters"]["example-agent"].as_str().unwrap()).unwrap();
    let prometheus = &agent["logs"]["metrics_collected"]["prometheus"];
    assert_eq!(
        prometheus["ecs_service_discovery"]["task_definition_list"][0]["sd_task_definition_arn_pattern"],
        ".*:task-definition/(checkout|cart)(-canary|-baseline)?:[0-9]+$"
    );
    assert_eq!(
        prometheus["emf_processor"]["metric_declaration"][0]["label_matcher"],
        "^envoy;ingress;[2-5]$"
    );
    assert_eq!(
        prometheus["log_group_name"],
        stack["resources"]["EnvoyLogs"]["id"]
    );
    let group = &stack["securityGroups"][stack["outputs"]["AgentSecurityGroup"].as_str().unwrap()];
    assert_eq!(group["in"], json!([]));
}

// What the build writes.

/// A place where the build runs, with stand-ins for the programs that reach out of it.
struct Build {
    folder: PathBuf,
}

impl Build {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("build-{name}"));
        drop(std::fs::remove_dir_all(&folder)); // of an earlier run
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let build = Self { folder };
        // Each call is one line of the file `calls`.
        let record = "#!/bin/bash\necho \"$(basename \"$0\") $*\" >>calls\n";
        build.program("docker", &format!("{record}cat >/dev/null\n"));
        build.program(
            "aws",
            &format!(
                "{record}case \"$2\" in describe-images) echo {DIGEST};; *) echo secret;; esac\n"
            ),
        );
        build
    }

    fn program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(self, name: &str, content: &Value) -> Self {
        std::fs::write(self.folder.join(name), content.to_string()).unwrap();
        self
    }

    /// Runs the commands of the build's specification; gives what it wrote, or what it complained of.
    fn run(&self, source: &str, request: &Value) -> Result<Value, String> {
        let commands = build_specification()["phases"]["build"]["commands"].clone();
        assert_eq!(commands.as_array().unwrap().len(), 1);
        let installed = program("python").parent().unwrap().to_owned();
        let path = std::env::join_paths(
            [self.folder.join("bin"), installed]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let output = run(
            Command::new("bash")
                .args(["-c", commands[0].as_str().unwrap()])
                .current_dir(&self.folder)
                .env("PATH", path.unwrap())
                .env("REQUEST", request.to_string())
                .envs([
                    ("SOURCE", source),
                    ("CLUSTER", "prod"),
                    ("SERVICE", "checkout"),
                    ("REGISTRY", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"),
                    ("REPOSITORY", "checkout"),
                    ("DOCKERFILE", "Dockerfile"),
                    ("COMMIT", "0123456789abcdef0123456789abcdef01234567"),
                    ("CODEBUILD_BUILD_NUMBER", "17"),
                ]),
            b"",
        );
        if !output.status.success() {
            return Err(text(&output.stderr).trim().to_owned());
        }
        let written = std::fs::read_to_string(self.folder.join("deploy.json")).unwrap();
        Ok(serde_json::from_str(&written).unwrap())
    }

    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_build_pushes_the_image_and_names_it_by_its_digest_in_the_request_of_the_repository() {
    let file = json!({ "container": "app", "plan": { "stepPercent": 20, "intervalSeconds": 300 } });
    let build = Build::new("repository").file("deploy.json", &file);
    let written = build
        .run(
            "Repository",
            &json!({ "container": "web", "capacity": "full" }),
        )
        .unwrap();
    let registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    assert_eq!(
        written,
        json!({
            "cluster": "prod", "service": "checkout", "image": format!("{registry}/checkout@{DIGEST}"),
            "container": "app", "plan": { "stepPercent": 20, "intervalSeconds": 300 }, "capacity": "full",
        })
    );
    Request::parse(&written).unwrap();
    let tagged = format!("{registry}/checkout:0123456789ab-17");
    let mut calls = build.calls();
    calls.sort(); // two of them run at once
    assert_eq!(
        calls,
        [
            "aws ecr describe-images --repository-name checkout --image-ids imageTag=0123456789ab-17 \
             --query imageDetails[0].imageDigest --output text"
                .to_owned(),
            "aws ecr get-login-password".to_owned(),
            format!("docker build --file Dockerfile --tag {tagged} ."),
            format!("docker login --username AWS --password-stdin {registry}"),
            format!("docker push {tagged}"),
        ]
    );
}

#[test]
fn a_repository_needs_no_deploy_json() {
    let written = Build::new("bare").run("Repository", &json!({})).unwrap();
    assert_eq!(written.as_object().unwrap().len(), 3);
    Request::parse(&written).unwrap();
}

#[test]
fn an_image_that_was_pushed_goes_into_the_request_as_codepipeline_describes_it() {
    let detail = json!({
        "ImageSizeInBytes": "44728918", "ImageDigest": DIGEST, "Version": "1.0", "ImagePushedAt": "Mon Nov 16 01:54:34 UTC 2026",
        "RegistryId": "123456789012", "RepositoryName": "checkout", "ImageTags": ["latest"],
        "ImageURI": format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout@{DIGEST}"),
    });
    let build = Build::new("pushed").file("imageDetail.json", &detail);
    let written = build
        .run("ImagePush", &json!({ "onUnhealthy": "freeze" }))
        .unwrap();
    assert_eq!(written["imageDetail"], detail);
    Request::parse(&written).unwrap();
    assert_eq!(build.calls(), Vec::<String>::new(), "nothing is built");
}

#[test]
fn a_commit_deploys_no_other_service_and_rolls_nothing_back() {
    for (file, complaint) in [
        (
            json!({ "service": "cart" }),
            "deploy.json: service is 'cart', but this pipeline deploys 'checkout'",
        ),
        (
            json!({ "cluster": "test" }),
            "deploy.json: cluster is 'test', but this pipeline deploys 'prod'",
        ),
        (
            json!({ "rollBack": "arn:aws:states:eu-west-1:123456789012:execution:serin-canary-deployment:other" }),
            "deploy.json: rollBack is for people, not for a pipeline",
        ),
    ] {
        let build = Build::new("other").file("deploy.json", &file);
        assert_eq!(build.run("Repository", &json!({})).unwrap_err(), complaint);
    }
    let same = json!({ "cluster": "prod", "service": "checkout" });
    let build = Build::new("same").file("deploy.json", &same);
    build.run("Repository", &json!({})).unwrap();
}

#[test]
fn a_build_that_fails_writes_no_request() {
    let build = Build::new("broken");
    build.program(
        "docker",
        "#!/bin/bash\ncat >/dev/null\n[ \"$1\" != build ] || exit 1\n",
    );
    build.run("Repository", &json!({})).unwrap_err();
    assert!(!build.folder.join("deploy.json").exists());
}
