//! The boundaries that the layout promises.

use std::collections::BTreeSet;
use std::path::Path;

use super::{files, functions, product_sources, read};

/// The crates that may know the AWS SDK and the Lambda runtime.
const KNOW_AWS: [&str; 2] = ["crates/serin-aws", "crates/serin-sim"];

/// Written so that this file does not contain what it forbids.
const AWS: [&str; 3] = [
    concat!("aws", "_sdk"),
    concat!("lambda", "_runtime"),
    concat!("aws", "_smithy"),
];

fn knows_aws(file: &Path) -> bool {
    KNOW_AWS.iter().any(|folder| file.starts_with(folder))
}

#[test]
fn only_the_adapters_and_the_simulation_name_a_type_of_the_sdk() {
    for file in files("", ".rs").iter().filter(|file| !knows_aws(file)) {
        let text = read(file);
        assert!(
            AWS.iter().all(|name| !text.contains(name)),
            "{} knows AWS",
            file.display()
        );
    }
}

#[test]
fn only_their_manifests_depend_on_the_sdk() {
    for file in files("", "Cargo.toml")
        .iter()
        .filter(|file| !knows_aws(file) && *file != Path::new("Cargo.toml"))
    {
        let text = read(file);
        let names = AWS
            .map(|name| name.replace('_', "-"))
            .into_iter()
            .chain(AWS.map(str::to_owned));
        for name in names {
            assert!(
                !text.lines().any(|line| line.starts_with(&name)),
                "{}: {name}",
                file.display()
            );
        }
    }
}

#[test]
fn a_step_builds_without_the_adapters() {
    for step in functions() {
        let manifest = read(format!("functions/{}/Cargo.toml", step.name));
        assert!(
            manifest.contains("\nserin-aws = { workspace = true, optional = true }\n"),
            "{}",
            step.name
        );
        assert!(
            manifest.contains("\nrequired-features = [\"lambda\"]\n"),
            "{}",
            step.name
        );
    }
}

#[test]
fn a_lambda_decides_nothing_outside_its_step() {
    for step in functions() {
        let main = read(format!("functions/{}/src/main.rs", step.name));
        let words: BTreeSet<_> = main
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .collect();
        assert!(
            ["if", "match", "unwrap_or", "loop"]
                .iter()
                .all(|word| !words.contains(word)),
            "{}",
            step.name
        );
        assert!(main.lines().count() < 20, "{}", step.name);
    }
}

#[test]
fn the_words_and_the_judge_do_no_input_and_output() {
    for folder in ["crates/serin/src", "crates/serin-judge/src"] {
        for (file, product) in product_sources(folder) {
            for forbidden in ["std::fs", "std::net", "std::env", "tokio::"] {
                assert!(
                    !product.contains(forbidden),
                    "{}: {forbidden}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn there_is_no_place_for_what_has_no_place() {
    for file in files("", ".rs") {
        let names = file
            .iter()
            .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned());
        for name in names {
            assert!(
                !["utils", "util", "common", "helpers", "misc"].contains(&name.as_str()),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn every_member_of_the_workspace_says_what_it_is_for() {
    let manifest = read("Cargo.toml");
    let members = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once("\n]"))
        .unwrap()
        .0;
    let members: Vec<_> = members
        .lines()
        .filter(|line| line.trim_start().starts_with('"'))
        .collect();
    for line in &members {
        assert!(
            line.split_once("# ")
                .is_some_and(|(_, comment)| comment.len() > 10),
            "{line}"
        );
    }
    let folders = files("", "Cargo.toml").len() - 1;
    assert_eq!(
        members.len(),
        folders,
        "every manifest is a member of the workspace"
    );
}
