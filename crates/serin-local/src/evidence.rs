//! What the checks of a deployment found, one after the other, as the ledger keeps it.

use serde_json::Value;
use serin::verdict::Verdict;

/// The verdict of every check of a deployment, oldest first, from the ledger's items as DynamoDB writes them.
///
/// # Errors
///
/// When a verdict cannot be read.
pub fn of_execution(ledger: &[Value], execution: &str) -> Result<Vec<Verdict>, serde_json::Error> {
    let start = format!("evidence#{execution}#");
    let mut checks: Vec<(&str, &str)> = ledger
        .iter()
        .filter(|item| text(&item["id"]).is_some_and(|id| id.starts_with(&start)))
        .filter_map(Value::as_object)
        .flatten()
        .filter(|(name, _)| name.starts_with("check"))
        .filter_map(|(name, verdict)| Some((name.as_str(), text(verdict)?)))
        .collect();
    // Their names count all checks of the deployment, with as many digits each.
    checks.sort_unstable();
    checks
        .into_iter()
        .map(|(_, verdict)| serde_json::from_str(verdict))
        .collect()
}

fn text(attribute: &Value) -> Option<&str> {
    attribute["S"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(step: usize) -> Value {
        let verdict = json!({
            "outcome": "healthy", "sentence": "", "at": "1970-01-01T00:00:00Z", "step": step,
            "weightPercent": 10, "findings": [],
        });
        json!({"S": verdict.to_string()})
    }

    #[test]
    fn the_checks_of_one_deployment_are_read_in_their_order() {
        let ledger = [
            json!({"id": {"S": "evidence#arn:x#1"}, "check00200": verdict(3), "expiresAt": {"N": "1"}}),
            json!({"id": {"S": "evidence#arn:y#0"}, "check00000": verdict(9)}),
            json!({"id": {"S": "evidence#arn:x#0"}, "check00001": verdict(2), "check00000": verdict(1)}),
            json!({"id": {"S": "deployment#arn:x"}, "phase": {"S": "Ended"}}),
        ];
        let read = of_execution(&ledger, "arn:x").unwrap();
        let steps: Vec<_> = read.iter().map(|verdict| verdict.step).collect();
        assert_eq!(steps, [1, 2, 3]);
        assert!(of_execution(&ledger, "arn:z").unwrap().is_empty());
    }

    #[test]
    fn a_verdict_that_cannot_be_read_is_not_left_out() {
        let ledger = [json!({"id": {"S": "evidence#arn:x#0"}, "check00000": {"S": "{}"}})];
        assert!(of_execution(&ledger, "arn:x").is_err());
    }
}
