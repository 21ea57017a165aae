//! The tags by which what a deployment has created can be told from everything else.

use serin::{Deployment, ExecutionArn};

/// The tag that names the execution which created a thing.
pub(crate) const EXECUTION: &str = "serin:execution";
/// The tag that names the service, as people call it, for which a thing was created.
pub(crate) const SERVICE: &str = "serin:service";

/// The tags of everything that `deployment` creates.
pub(crate) fn tags(deployment: &Deployment) -> [(&'static str, String); 2] {
    [
        (EXECUTION, deployment.execution.to_string()),
        (SERVICE, deployment.service.to_string()),
    ]
}

/// Whether a tag of stable's may be copied: AWS's own cannot be set by anybody, and ours say who created the original
/// (which bears them after a promotion), not the copy.
pub(crate) fn is_copied(key: &str) -> bool {
    !key.starts_with("aws:") && key != EXECUTION && key != SERVICE
}

/// The service for which what bears these tags was created, as people call it; `None` if Serin did not create it.
pub(crate) fn service_of<'a>(
    tags: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> Option<String> {
    tags.into_iter()
        .find(|(key, _)| *key == Some(SERVICE))
        .and_then(|(_, value)| value.map(str::to_owned))
}

/// Whether tags say that `execution` created what bears them.
pub(crate) fn is_ours<'a>(
    tags: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>,
    execution: &ExecutionArn,
) -> bool {
    tags.into_iter()
        .any(|(key, value)| key == Some(EXECUTION) && value == Some(execution.as_str()))
}
