//! The picture of the state machine, made of its definition: docs/state-machine.md, in the language of Mermaid, which code hosts draw.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::project::definition_text;

const INTRODUCTION: &str = "# The state machine

Made of [statemachine/canary-deployment.asl.json](../statemachine/canary-deployment.asl.json) by `cargo xtask screenshots`, and a test says
that it is current. Rounded states wait, diamonds choose, and dashed lines are errors that a state catches. Every task also repeats itself
where trying again helps.

```mermaid
flowchart TD
";

/// The document with the picture.
pub fn of_the_state_machine() -> String {
    let definition: Value = serde_json::from_str(&definition_text())
        .expect("the definition is JSON, as the contract tests see");
    let states = definition["States"]
        .as_object()
        .expect("a state machine has states");
    let names: BTreeMap<&str, String> = states
        .keys()
        .enumerate()
        .map(|(number, name)| (name.as_str(), format!("s{number}")))
        .collect();
    let mut text = INTRODUCTION.to_owned();
    for (name, state) in states {
        let (open, close) = match state["Type"].as_str() {
            Some("Choice") => ("{\"", "\"}"),
            Some("Wait") => ("(\"", "\")"),
            Some("Succeed" | "Fail") => ("([\"", "\"])"),
            _ => ("[\"", "\"]"),
        };
        writeln!(text, "    {}{open}{name}{close}", names[name.as_str()]).expect("text has room");
    }
    for (name, state) in states {
        let from = &names[name.as_str()];
        let mut line = |arrow: &str, to: &Value| {
            if let Some(to) = to.as_str() {
                writeln!(text, "    {from} {arrow} {}", names[to]).expect("text has room");
            }
        };
        line("-->", &state["Next"]);
        for choice in state["Choices"].as_array().into_iter().flatten() {
            line("-->", &choice["Next"]);
        }
        line("-->", &state["Default"]);
        let mut caught: Vec<&Value> = state["Catch"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|caught| &caught["Next"])
            .collect();
        caught.dedup();
        for to in caught {
            line("-.->", to);
        }
    }
    text.push_str("```\n");
    text
}
