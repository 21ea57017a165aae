//! What a person is told, beside what there is.

use serin::Leftover;

/// The differences that the list does not name.
pub fn unnamed(traces: Vec<String>, left: &[Leftover]) -> Vec<String> {
    traces
        .into_iter()
        .filter(|trace| !trace.starts_with("lock ") && !is_named(trace, left))
        .collect()
}

/// Whether the list names the object of a difference.
pub fn is_named(trace: &str, left: &[Leftover]) -> bool {
    let list = serde_json::to_string(left).expect("a list has string keys only");
    let ended = [" is new", " is gone", " is no longer ACTIVE"];
    let object = ended
        .iter()
        .find_map(|end| trace.strip_suffix(end))
        .unwrap_or(trace);
    let object = object.split(" was ").next().unwrap_or(object);
    if object.starts_with("rule ") || object.starts_with("listener ") {
        // By its ARN in the list, which has no path in it.
        return list.contains("listener");
    }
    let kinds = [
        "route ",
        "virtual node ",
        "target group ",
        "scalable target ",
        "Cloud Map service ",
        "ECS service ",
        "task definition ",
    ];
    let name = kinds
        .iter()
        .find_map(|kind| object.strip_prefix(kind))
        .unwrap_or(object);
    if let Some((name, id)) = name.trim_end_matches(')').split_once(" (") {
        return list.contains(id) || list.contains(&format!("service {name} "));
    }
    // Where nobody could look, what AWS chose of a name is not known.
    let by_name = match name.rsplit_once(':') {
        Some((family, _)) if object.starts_with("task definition ") => format!("{family}:*"),
        _ => name.to_owned(),
    };
    let path = name
        .rsplit_once("targetgroup/")
        .map_or(name, |(_, path)| path);
    let part = match path.split_once('/') {
        Some((group, _)) if object.starts_with("target group ") => format!("targetgroup/{group}/"),
        _ => path
            .rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or(path)
            .to_owned(),
    };
    list.contains(&by_name) || list.contains(&part)
}
