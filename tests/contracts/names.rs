//! One name per step, in every place.

use std::collections::BTreeSet;

use super::{STEPS, Step, calls, functions, read, root, step_of, template};

/// What folders, states and the template call something, against the steps.
#[track_caller]
fn check_steps(
    what: &str,
    found: impl IntoIterator<Item = String>,
    expected: impl Fn(&Step) -> String,
) {
    let found: BTreeSet<_> = found.into_iter().collect();
    assert_eq!(found, functions().map(expected).collect(), "{what}");
}

#[test]
fn the_folders_of_the_functions_are_the_steps() {
    let folders = root()
        .join("functions")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    check_steps("functions/", folders, |step| step.name.to_owned());
}

#[test]
fn the_tasks_of_the_state_machine_are_the_steps() {
    let called: BTreeSet<_> = calls().values().map(|task| step_of(task).name).collect();
    assert_eq!(called, STEPS.iter().map(|step| step.name).collect());
}

#[test]
fn the_functions_of_the_template_are_the_steps() {
    let functions = template::resources_of("AWS::Serverless::Function").into_keys();
    check_steps("template.yaml", functions, |step| {
        format!("{}Function", step.pascal())
    });
}

#[test]
fn crate_binary_function_and_error_bear_the_name_of_the_step() {
    for Step { name, .. } in functions() {
        let manifest = read(format!("functions/{name}/Cargo.toml"));
        assert!(
            manifest.contains(&format!("[package]\nname = \"{name}\"\n")),
            "{name}: the crate"
        );
        assert!(
            manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")),
            "{name}: the binary"
        );
        assert_eq!(manifest.matches("[[bin]]").count(), 1, "{name}: one Lambda");
    }
    for step in functions() {
        let library = read(format!("functions/{}/src/lib.rs", step.name));
        assert!(
            library.contains(&format!("pub async fn {}(", step.snake())),
            "{}: the step's function",
            step.name
        );
        assert!(
            library.contains(&format!("pub enum {}Error ", step.pascal())),
            "{}: the step's errors",
            step.name
        );
        let main: String = read(format!("functions/{}/src/main.rs", step.name))
            .split_whitespace()
            .collect();
        assert!(
            main.contains(&format!("run_step(\"{}\",", step.name)),
            "{}: the name in its logs",
            step.name
        );
        assert!(
            main.contains(&format!("{0}::{0}(", step.snake())),
            "{}: the Lambda runs its own step",
            step.name
        );
    }
}

#[test]
fn the_template_builds_each_steps_own_binary_under_its_name() {
    let functions = template::resources_of("AWS::Serverless::Function");
    for step in super::functions() {
        let function = &functions[&format!("{}Function", step.pascal())];
        assert_eq!(
            function["Metadata"]["BuildMethod"], "rust-cargolambda",
            "{}",
            step.name
        );
        assert_eq!(function["Metadata"]["BuildProperties"]["Binary"], step.name);
        assert_eq!(
            function["Properties"]["FunctionName"]["!Sub"],
            format!("${{AWS::StackName}}-{}", step.name)
        );
    }
}

#[test]
fn every_command_of_the_project_in_the_documents_exists() {
    let program = read("xtask/src/main.rs");
    let mut found = 0;
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/request.md",
        "docs/cost.md",
    ] {
        for named in read(document).split("cargo xtask ").skip(1) {
            let name = named
                .split(|letter: char| !letter.is_ascii_lowercase() && letter != '-')
                .next()
                .unwrap();
            let variant: String = name
                .split('-')
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();
            let is_there = ["\n    {} {", "\n    {},"]
                .iter()
                .any(|form| program.contains(&form.replacen("{}", &variant, 1)));
            assert!(is_there, "{document}: cargo xtask {name}");
            found += 1;
        }
    }
    assert!(found > 10);
}

#[test]
fn every_scenario_of_the_local_cloud_is_a_request_that_is_accepted() {
    for scenario in serin_local::Scenario::ALL {
        let request = scenario.request().unwrap();
        if let Err(faults) = serin::request::Request::parse(&request) {
            panic!("{}: {faults}", scenario.name());
        }
    }
}
