//! A fault on every call, every invocation and every state of whole deployments, one by one: `cargo xtask simulate --exhaustive`
//! prints the same as a table.

use std::collections::BTreeSet;

use rstest::rstest;
use serin::report::Ending;
use serin_driver::exhaustive::{PASSING, Planned, cases};

use super::On;

#[rstest]
#[tokio::test]
async fn a_fault_on_any_call_or_invocation_or_state_breaks_no_rule_and_a_passing_one_changes_no_ending(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(
        Planned::Promoted,
        Planned::Replaced,
        Planned::RolledBack,
        Planned::ReplacedBesideBaseline,
        Planned::RolledBackBesideBaseline
    )]
    planned: Planned,
) {
    let all = Box::pin(cases(on, planned)).await;
    let kinds: BTreeSet<&str> = all.iter().map(|case| case.kind).collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
    let mut wrong = Vec::new();
    // With a baseline every call is made twice, in the same code, and a replacement is a promotion up to its end: some of them are
    // enough here. `cargo xtask simulate --exhaustive` has all.
    let every = match planned {
        Planned::Promoted | Planned::RolledBack => 1,
        Planned::Replaced => 3,
        Planned::ReplacedBesideBaseline | Planned::RolledBackBesideBaseline => 5,
    };
    for case in all.iter().step_by(every) {
        let outcome = Box::pin(case.run(false)).await;
        let mut broken = outcome.broken;
        let expected = match planned {
            Planned::Promoted | Planned::Replaced | Planned::ReplacedBesideBaseline => {
                Ending::Promoted
            }
            Planned::RolledBack | Planned::RolledBackBesideBaseline => Ending::RolledBack,
        };
        if PASSING.contains(&case.kind) && outcome.ending != expected {
            broken.push(format!("it ended as {}", outcome.ending));
        }
        wrong.extend(
            broken
                .first()
                .map(|first| format!("{} at {}: {first}", case.kind, case.place)),
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
}
