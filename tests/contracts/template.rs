//! The template, against the state machine and the rules that every function keeps.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use serin::deployment::LATE_SECONDS;

pub(crate) use serin_driver::template::{one_or_many, resources_of, statements, template};

use super::{STEPS, Step, calls, definition_text, functions, read, recovery_text};

/// The properties of the deployments' state machine.
pub(crate) fn state_machine() -> Value {
    machine("CanaryDeployment")
}

/// The properties of a state machine.
fn machine(name: &str) -> Value {
    let machines = resources_of("AWS::Serverless::StateMachine");
    assert_eq!(
        machines.keys().collect::<Vec<_>>(),
        ["CanaryDeployment", "Recovery"]
    );
    machines[name]["Properties"].clone()
}

/// The state machines: the properties and the text.
fn machines() -> [(Value, String); 2] {
    [
        (state_machine(), definition_text()),
        (machine("Recovery"), recovery_text()),
    ]
}

fn alias_of(step: &Step) -> Value {
    json!({ "!Ref": format!("{}Function.Alias", step.pascal()) })
}

#[test]
fn every_name_in_the_state_machine_is_substituted_and_every_substitution_is_used() {
    for (machine, text) in machines() {
        let used: BTreeSet<_> = text
            .split("${")
            .skip(1)
            .map(|piece| piece.split_once('}').unwrap().0)
            .collect();
        let defined = machine["DefinitionSubstitutions"].as_object().unwrap();
        assert_eq!(used, defined.keys().map(String::as_str).collect());
    }
}

#[test]
fn the_state_machine_calls_the_live_alias_of_each_function() {
    let machine = state_machine();
    for step in &STEPS {
        assert_eq!(
            machine["DefinitionSubstitutions"][step.substitution()],
            alias_of(step)
        );
    }
    let rollback = &STEPS[5];
    assert_eq!(
        self::machine("Recovery")["DefinitionSubstitutions"],
        json!({ rollback.substitution(): alias_of(rollback) })
    );
    assert_eq!(
        template()["Globals"]["Function"]["AutoPublishAlias"],
        "live"
    );
}

#[test]
fn the_state_machine_may_invoke_its_functions_and_nothing_else() {
    for (machine, _) in machines() {
        let statements = statements(&machine);
        let invoke: Vec<_> = statements
            .iter()
            .filter(|statement| statement["Action"].to_string().contains("lambda:"))
            .collect();
        assert_eq!(invoke.len(), 1);
        assert_eq!(invoke[0]["Action"], "lambda:InvokeFunction");
        let called = machine["DefinitionSubstitutions"]
            .as_object()
            .unwrap()
            .values();
        assert_eq!(
            one_or_many(&invoke[0]["Resource"])
                .into_iter()
                .map(|alias| alias.to_string())
                .collect::<BTreeSet<_>>(),
            called.map(Value::to_string).collect()
        );
    }
}

#[test]
fn a_function_that_hangs_is_ended_before_its_state_calls_it_again() {
    let timeout = template()["Globals"]["Function"]["Timeout"]
        .as_u64()
        .unwrap();
    for (name, task) in calls() {
        if task["TimeoutSecondsPath"].is_null() {
            assert!(task["TimeoutSeconds"].as_u64().unwrap() > timeout, "{name}");
        }
    }
    assert!(
        u64::from(LATE_SECONDS) >= timeout + 15,
        "what a function had sent when it was ended has arrived before anything is removed"
    );
    let functions = resources_of("AWS::Serverless::Function");
    assert!(
        functions
            .values()
            .all(|function| function["Properties"]["Timeout"].is_null()),
        "one time limit for all"
    );
}

#[test]
fn every_function_has_a_role_and_a_log_group_of_its_own() {
    let (functions, groups) = (
        resources_of("AWS::Serverless::Function"),
        resources_of("AWS::Logs::LogGroup"),
    );
    for step in super::functions() {
        let properties = &functions[&format!("{}Function", step.pascal())]["Properties"];
        assert!(
            !statements(properties).is_empty() && properties["Role"].is_null(),
            "{}",
            step.name
        );
        let group = format!("{}Logs", step.pascal());
        assert_eq!(properties["LoggingConfig"]["LogGroup"]["!Ref"], group);
        assert_eq!(
            groups[&group]["Properties"]["LogGroupName"]["!Sub"],
            format!("/aws/lambda/${{AWS::StackName}}-{}", step.name)
        );
    }
    assert_eq!(
        template()["Globals"]["Function"]["LoggingConfig"]["LogFormat"],
        "JSON"
    );
    assert_eq!(
        groups.len(),
        super::functions().count() + machines().len(),
        "and the state machines'"
    );
}

#[test]
fn no_log_is_kept_for_ever() {
    for (name, group) in resources_of("AWS::Logs::LogGroup") {
        assert_eq!(
            group["Properties"]["RetentionInDays"]["!Ref"], "LogRetentionDays",
            "{name}"
        );
    }
}

#[test]
fn every_state_of_every_execution_is_logged_with_its_data() {
    for (machine, _) in machines() {
        assert_eq!(
            (&machine["Type"], &machine["Logging"]["Level"]),
            (&json!("STANDARD"), &json!("ALL"))
        );
        assert_eq!(machine["Logging"]["IncludeExecutionData"], true);
    }
    for group in ["CanaryDeploymentLogs", "RecoveryLogs"] {
        let name = resources_of("AWS::Logs::LogGroup")[group]["Properties"]["LogGroupName"]["!Sub"]
            .to_string();
        assert!(name.starts_with("\"/aws/vendedlogs/states/"), "{name}");
    }
}

#[test]
fn the_permissions_boundary_reaches_every_role() {
    let boundary = json!({ "!If": ["HasPermissionsBoundary", { "!Ref": "PermissionsBoundary" }, { "!Ref": "AWS::NoValue" }] });
    assert_eq!(
        template()["Globals"]["Function"]["PermissionsBoundary"],
        boundary
    );
    for (machine, _) in machines() {
        assert_eq!(machine["PermissionsBoundary"], boundary);
    }
    assert!(
        resources_of("AWS::IAM::Role").is_empty(),
        "a role that the boundary does not reach"
    );
}

#[test]
fn the_ledger_is_as_the_functions_expect_it() {
    let tables = resources_of("AWS::DynamoDB::Table");
    let table = &tables["LedgerTable"]["Properties"];
    assert_eq!(
        table["KeySchema"],
        json!([{ "AttributeName": "id", "KeyType": "HASH" }])
    );
    assert_eq!(
        table["AttributeDefinitions"],
        json!([
            { "AttributeName": "id", "AttributeType": "S" },
            { "AttributeName": "execution", "AttributeType": "S" },
            { "AttributeName": "listed", "AttributeType": "S" },
            { "AttributeName": "startedAt", "AttributeType": "S" },
        ])
    );
    assert_eq!(
        table["TimeToLiveSpecification"],
        json!({ "AttributeName": "expiresAt", "Enabled": true })
    );
    assert_eq!(table["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(
        template()["Globals"]["Function"]["Environment"]["Variables"]["SERIN_LEDGER_TABLE"]["!Ref"],
        "LedgerTable"
    );
}

#[test]
fn every_parameter_has_a_default_and_a_sentence() {
    for (name, parameter) in template()["Parameters"].as_object().unwrap() {
        assert!(!parameter["Default"].is_null(), "{name}");
        assert!(
            parameter["Description"]
                .as_str()
                .is_some_and(|sentence| sentence.ends_with('.')),
            "{name}"
        );
    }
}

#[test]
fn nothing_in_the_installation_belongs_to_one_account_or_region() {
    for file in [
        "template.yaml",
        "samconfig.toml",
        "statemachine/canary-deployment.asl.json",
        "statemachine/recovery.asl.json",
        "examples/pipeline/template.yaml",
        "examples/on-push/template.yaml",
        "examples/appmesh-metrics/template.yaml",
    ] {
        for word in
            read(file).split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
        {
            let is_account = word.len() == 12 && word.bytes().all(|digit| digit.is_ascii_digit());
            let is_region = matches!(word.split('-').collect::<Vec<_>>()[..], [area, side, number]
                if area.len() == 2 && side.len() > 4 && number.parse::<u8>().is_ok());
            assert!(!is_account && !is_region, "{file}: {word}");
        }
    }
}

#[test]
fn the_template_tells_its_story_in_order() {
    let text = read("template.yaml");
    let mut landmarks = ["Parameters", "Conditions", "Globals", "Resources"]
        .map(|name| format!("\n{name}:\n"))
        .to_vec();
    landmarks.extend(
        ["CanaryDeployment", "Recovery", "LedgerTable"].map(|name| format!("\n  {name}:\n")),
    );
    landmarks.extend(functions().map(|step| format!("\n  {}Function:\n", step.pascal())));
    landmarks.extend(["CanaryDeployment", "Recovery"].map(|name| format!("\n  {name}Logs:\n")));
    landmarks.extend(functions().map(|step| format!("\n  {}Logs:\n", step.pascal())));
    landmarks.push("\nOutputs:\n".to_owned());
    let places: Vec<_> = landmarks
        .iter()
        .map(|name| text.find(name).unwrap_or_else(|| panic!("no{name}")))
        .collect();
    assert!(places.is_sorted(), "{landmarks:?}");
}

#[test]
fn every_end_of_an_execution_but_success_starts_the_recovery_with_its_name() {
    let rule = machine("Recovery")["Events"]["ExecutionEnded"].clone();
    let detail = &rule["Properties"]["Pattern"]["detail"];
    assert_eq!(detail["status"], json!(["ABORTED", "TIMED_OUT", "FAILED"]));
    assert_eq!(
        detail["stateMachineArn"],
        json!([{ "!Ref": "CanaryDeployment" }])
    );
    assert_eq!(
        rule["Properties"]["InputTransformer"],
        json!({
            "InputPathsMap": { "execution": "$.detail.executionArn" },
            "InputTemplate": r#"{"recover": "<execution>"}"#,
        })
    );
}

#[test]
fn the_sweep_is_made_every_few_minutes_and_knows_what_it_starts() {
    let sweep = resources_of("AWS::Serverless::Function")["SweepFunction"]["Properties"].clone();
    assert_eq!(
        sweep["Events"]["EveryFiveMinutes"]["Properties"]["Schedule"],
        "rate(5 minutes)"
    );
    assert_eq!(
        sweep["Environment"]["Variables"],
        json!({ "SERIN_RECOVERY": { "!Ref": "Recovery" } })
    );
    let index = &resources_of("AWS::DynamoDB::Table")["LedgerTable"]["Properties"]["GlobalSecondaryIndexes"];
    assert_eq!(index[0]["IndexName"], "held");
    assert_eq!(
        index[0]["KeySchema"],
        json!([{ "AttributeName": "execution", "KeyType": "HASH" }])
    );
}

#[test]
fn the_records_are_listed_by_their_beginning() {
    let index = &resources_of("AWS::DynamoDB::Table")["LedgerTable"]["Properties"]["GlobalSecondaryIndexes"]
        [1];
    assert_eq!(
        *index,
        json!({
            "IndexName": "recent",
            "KeySchema": [
                { "AttributeName": "listed", "KeyType": "HASH" }, { "AttributeName": "startedAt", "KeyType": "RANGE" },
            ],
            "Projection": {
                "ProjectionType": "INCLUDE", "NonKeyAttributes": ["service", "version", "phase", "ending", "endedAt"],
            },
        })
    );
}

#[test]
fn whoever_draws_the_page_cannot_read_what_answers_a_frozen_deployment() {
    let status = resources_of("AWS::Serverless::Function")["StatusFunction"]["Properties"].clone();
    let reads: Vec<_> = statements(&status)
        .into_iter()
        .filter(|statement| statement["Action"] == "dynamodb:GetItem")
        .collect();
    let [read] = &reads[..] else {
        panic!("{reads:?}")
    };
    let keys = &read["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
    assert_eq!(
        *keys,
        json!([
            "deployment#*",
            "evidence#*",
            "history#*",
            "request#*",
            "wishes#*"
        ])
    );
}

#[test]
fn a_frozen_deployments_question_reaches_the_function_that_answers_it() {
    let decide = &resources_of("AWS::Serverless::Function")["DecideFunction"]["Properties"];
    let pattern = &decide["Events"]["Frozen"]["Properties"]["Pattern"];
    assert_eq!(pattern["source"], json!([serin_aws::SOURCE]));
    assert_eq!(pattern["detail-type"], json!([serin_aws::DETAIL_TYPE]));
    assert_eq!(pattern["detail"], json!({ "phase": ["frozen"] }));
}

#[test]
fn who_may_look_may_not_decide() {
    let policies = resources_of("AWS::IAM::ManagedPolicy");
    let invoked = |name: &str| -> Vec<Value> {
        let document = &policies[name]["Properties"]["PolicyDocument"];
        one_or_many(&document["Statement"])
            .into_iter()
            .filter(|statement| statement["Action"] == "lambda:InvokeFunction")
            .map(|statement| statement["Resource"].clone())
            .collect()
    };
    let alias = |name: &str| vec![json!({ "!Ref": format!("{name}Function.Alias") })];
    assert_eq!(invoked("ViewDeploymentsPolicy"), alias("Status"));
    assert_eq!(invoked("DecideDeploymentsPolicy"), alias("Decide"));
    let dashboard =
        resources_of("AWS::CloudWatch::Dashboard")["Dashboard"]["Properties"]["DashboardBody"]
            .clone();
    let [body, names] = dashboard["!Sub"].as_array().unwrap().as_slice() else {
        panic!("{dashboard}");
    };
    assert!(
        body.as_str()
            .unwrap()
            .contains(r#""endpoint": "${Status}""#),
        "{body}"
    );
    assert_eq!(*names, json!({ "Status": alias("Status")[0] }));
}

#[test]
fn a_sweep_that_fails_as_often_as_the_simulated_runs_allow_raises_an_alarm() {
    let alarms = resources_of("AWS::CloudWatch::Alarm");
    let alarm = &alarms["SweepFailsAlarm"]["Properties"];
    let schedule = &resources_of("AWS::Serverless::Function")["SweepFunction"]["Properties"]["Events"]
        ["EveryFiveMinutes"]["Properties"]["Schedule"];
    assert_eq!(*schedule, "rate(5 minutes)");
    assert_eq!(
        (&alarm["Namespace"], &alarm["MetricName"], &alarm["Period"]),
        (&json!("AWS/Lambda"), &json!("Errors"), &json!(300))
    );
    assert_eq!(
        alarm["Dimensions"],
        json!([{ "Name": "FunctionName", "Value": { "!Ref": "SweepFunction" } }])
    );
    let sweeps = json!(serin_driver::chance::SWEEPS_TO_ALARM);
    assert_eq!(
        (&alarm["DatapointsToAlarm"], &alarm["EvaluationPeriods"]),
        (&sweeps, &sweeps)
    );
    assert_eq!(
        alarm["AlarmActions"],
        json!({ "!If": ["HasAlarmTopic", [{ "!Ref": "AlarmTopic" }], { "!Ref": "AWS::NoValue" }] })
    );
}

#[test]
fn notices_are_told_only_where_somebody_has_set_a_channel_up() {
    let resources = template()["Resources"].as_object().unwrap().clone();
    let conditional: BTreeSet<_> = resources
        .iter()
        .filter(|(_, resource)| resource["Condition"] == "HasNoticeChannels")
        .map(|(name, _)| name.as_str())
        .collect();
    let of_notices = [
        "NotifyFunction",
        "NotifyLogs",
        "UndeliveredNotices",
        "UndeliveredNoticesAlarm",
    ];
    assert_eq!(conditional, of_notices.into());
    let notify = &resources["NotifyFunction"]["Properties"];
    assert_eq!(
        notify["Events"]["Notice"]["Properties"]["Pattern"],
        json!({
            "source": [serin_aws::SOURCE],
            "detail-type": [serin_aws::DETAIL_TYPE],
            "account": [{ "!Ref": "AWS::AccountId" }],
        })
    );
    assert_eq!(
        notify["Environment"]["Variables"],
        json!({ "SERIN_NOTICE_CHANNELS": { "!Ref": "NoticeChannelsSecret" } })
    );
}

#[test]
fn a_notice_that_is_not_told_goes_into_a_queue_and_raises_an_alarm() {
    let notify = resources_of("AWS::Serverless::Function")["NotifyFunction"]["Properties"].clone();
    assert_eq!(notify["EventInvokeConfig"]["MaximumRetryAttempts"], 2);
    assert_eq!(
        notify["EventInvokeConfig"]["DestinationConfig"]["OnFailure"],
        json!({ "Type": "SQS", "Destination": { "!GetAtt": "UndeliveredNotices.Arn" } })
    );
    let alarm = &resources_of("AWS::CloudWatch::Alarm")["UndeliveredNoticesAlarm"]["Properties"];
    assert_eq!(
        (&alarm["Namespace"], &alarm["MetricName"]),
        (
            &json!("AWS/SQS"),
            &json!("ApproximateNumberOfMessagesVisible")
        )
    );
    assert_eq!(
        alarm["Dimensions"],
        json!([{ "Name": "QueueName", "Value": { "!GetAtt": "UndeliveredNotices.QueueName" } }])
    );
    assert_eq!(
        alarm["AlarmActions"],
        json!({ "!If": ["HasAlarmTopic", [{ "!Ref": "AlarmTopic" }], { "!Ref": "AWS::NoValue" }] })
    );
}
