//! The deployments that the ledger has kept, and what happened in each, as text.

use serde_json::Value;
use serin::Notice;
use serin::history::Wish;

/// Every deployment, or those of one service (its name, or `cluster/service`), the newest first, with what happened in it.
///
/// # Errors
///
/// When something that was kept cannot be read.
pub fn told(ledger: &[Value], service: Option<&str>) -> Result<String, serde_json::Error> {
    let mut records: Vec<&Value> = ledger
        .iter()
        .filter(|item| text(item, "id").starts_with(RECORD))
        .filter(|item| service.is_none_or(|service| is_of(text(item, "service"), service)))
        .collect();
    records.sort_by_key(|item| std::cmp::Reverse(text(item, "startedAt")));
    let mut lines = Vec::new();
    for record in records {
        let execution = text(record, "id").trim_start_matches(RECORD);
        let state = match text(record, "ending") {
            "" => text(record, "phase"),
            ending => ending,
        };
        lines.push(format!(
            "{}  {}  {state}  {}",
            text(record, "startedAt"),
            text(record, "service"),
            text(record, "version"),
        ));
        lines.push(format!("  {execution}"));
        let mut happened = Vec::new();
        for kept in kept(ledger, &format!("history#{execution}")) {
            let notice: Notice = serde_json::from_str(kept)?;
            let weight = notice.weight_percent.to_string();
            happened.push((notice.at, format!("{weight:>5} %  {}", notice.sentence)));
        }
        for kept in kept(ledger, &format!("wishes#{execution}")) {
            let wish: Wish = serde_json::from_str(kept)?;
            let sentence = format!("{} decided {}: {}", wish.by, wish.order, wish.came_of_it);
            happened.push((wish.at, format!("         {sentence}")));
        }
        happened.sort();
        lines.extend(
            happened
                .into_iter()
                .map(|(at, what)| format!("  {}  {what}", at.strftime("%H:%M:%S"))),
        );
    }
    if lines.is_empty() {
        lines.push("no deployment is kept".to_owned());
    }
    Ok(lines.join("\n"))
}

/// How the ids of the records begin.
const RECORD: &str = "deployment#";

fn is_of(kept: &str, service: &str) -> bool {
    kept == service || kept.split('/').next_back() == Some(service)
}

/// The texts that were kept in an item, each under a name of its own.
fn kept<'a>(ledger: &'a [Value], id: &str) -> Vec<&'a str> {
    let item = ledger.iter().find(|item| text(item, "id") == id);
    item.and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "id")
        .filter_map(|(_, attribute)| attribute["S"].as_str())
        .collect()
}

fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name]["S"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_deployment_comes_first_with_what_happened_and_who_decided() {
        let record = |name: &str, service: &str, at: &str| {
            json!({
                "id": {"S": format!("deployment#arn:{name}")}, "service": {"S": service}, "startedAt": {"S": at},
                "version": {"S": "checkout:2"}, "phase": {"S": "Running"},
            })
        };
        let notice = json!({
            "version": "1", "id": "planned", "at": "2026-11-22T01:00:00Z", "execution": "arn:b", "weightPercent": 0.0,
            "sentence": "it is planned", "phase": "rollingBack",
        });
        let wish = json!({
            "requestId": "r", "at": "2026-11-22T01:05:00Z", "by": "Ada", "decision": "rollBack", "cameOfIt": "it was stopped",
        });
        let ledger = [
            record("a", "prod/checkout", "2026-11-21T00:00:00Z"),
            record("b", "prod/checkout", "2026-11-22T00:00:00Z"),
            record("c", "prod/other", "2026-11-22T00:00:00Z"),
            json!({"id": {"S": "history#arn:b"}, "planned": {"S": notice.to_string()}, "expiresAt": {"N": "1"}}),
            json!({"id": {"S": "wishes#arn:b"}, "r": {"S": wish.to_string()}}),
        ];
        let told = told(&ledger, Some("checkout")).unwrap();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "2026-11-22T00:00:00Z  prod/checkout  Running  checkout:2",
                "  arn:b",
                "  01:00:00      0 %  it is planned",
                "  01:05:00           Ada decided rollBack: it was stopped",
                "2026-11-21T00:00:00Z  prod/checkout  Running  checkout:2",
                "  arn:a",
            ]
        );
        assert_eq!(
            super::told(&ledger, Some("nobody")).unwrap(),
            "no deployment is kept"
        );
    }
}
