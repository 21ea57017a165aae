//! Names and identifiers: one type each, so that two of them cannot be swapped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is; what a request may say is checked in [`crate::request`].
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name (not the ARN) of an ECS cluster.
    ClusterName;
    /// The name (not the ARN) of an ECS service.
    ServiceName;
    /// The name of a container in a task definition.
    ContainerName;
    /// The family of a task definition, without a revision.
    Family;
    /// The ARN of one revision of a task definition.
    TaskDefinitionArn;
    /// The ARN of the state machine's execution; it identifies the deployment to people.
    ExecutionArn;
    /// What a deployment deploys, to find out whether another deploys the same: its images by their digests, or a task definition.
    VersionId;
}

impl VersionId {
    /// That of these images; `None` if one is named by a tag, which may mean another image every time.
    pub fn of_images<'a>(images: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut images: Vec<_> = images.into_iter().collect();
        images.sort_unstable();
        let by_digest = images.iter().all(|image| image.contains("@sha256:"));
        by_digest.then(|| Self(images.join(",")))
    }
}

impl ExecutionArn {
    /// The ARN of the state machine that it is an execution of.
    pub fn state_machine(&self) -> String {
        let machine = self.0.rsplit_once(':').map_or(self.as_str(), |(of, _)| of);
        machine.replacen(":execution:", ":stateMachine:", 1)
    }
}

impl ExecutionArn {
    /// The ARN of something of another AWS service in the execution's partition and Region, and in its account unless another
    /// owns it.
    pub fn arn_beside(&self, service: &str, owner: Option<&str>, resource: &str) -> String {
        let mut parts = self.as_str().split(':').skip(1);
        let partition = parts.next().unwrap_or_default();
        let region = parts.nth(1).unwrap_or_default();
        let account = owner.or_else(|| parts.next()).unwrap_or_default();
        format!("arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

/// The deployment in eight hexadecimal digits, for the names of what it creates.
///
/// Derived from the execution's ARN, so that every Lambda, however often it runs, arrives at the same names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(String);

impl DeploymentId {
    /// The first eight digits of the SHA-256 of the execution's ARN.
    pub fn of(execution: &ExecutionArn) -> Self {
        Self::digest(execution.as_str())
    }

    /// Another one, of the baseline, for the calls that AWS tells apart by it.
    pub fn of_baseline(execution: &ExecutionArn) -> Self {
        Self::digest(&format!("{execution}/baseline"))
    }

    fn digest(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let digits = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(format!("{digits:08x}"))
    }

    /// The eight digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person calls the service, whatever ECS service bears the name now (see [`crate::request::FinishMode::Replace`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceKey {
    /// The cluster.
    pub cluster: ClusterName,
    /// The service's name in requests.
    pub service: ServiceName,
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.cluster, self.service)
    }
}

/// The name of something of the canary: `<stable>-canary-<deployment>`, with stable's part cut so that the whole has at
/// most `limit` characters.
///
/// A stable that is itself a former canary (after `replace`) gives its own base name, so that names do not grow.
pub fn canary_name(stable: &str, deployment: &DeploymentId, limit: usize) -> String {
    copy_name(stable, &format!("-canary-{deployment}"), limit)
}

/// The same for the baseline: `<stable>-baseline-<deployment>`.
pub fn baseline_name(stable: &str, deployment: &DeploymentId, limit: usize) -> String {
    copy_name(stable, &format!("-baseline-{deployment}"), limit)
}

fn copy_name(stable: &str, tail: &str, limit: usize) -> String {
    let base = base_name(stable);
    let room = limit.saturating_sub(tail.len());
    let kept: String = base.chars().take(room).collect();
    format!("{}{tail}", kept.trim_end_matches('-'))
}

/// The canary's task-definition family: `<family>-canary`; for a stable that is a former canary, the family it came from.
///
/// The two families alternate, because the stock metrics tell the versions apart by nothing but the family.
pub fn canary_family(stable: &Family) -> Family {
    match stable.as_str().strip_suffix("-canary") {
        Some(base) if !base.is_empty() => Family::new(base),
        _ => Family::new(format!("{stable}-canary")),
    }
}

/// The baseline's task-definition family: `<family>-baseline`, of the family that stable's came from.
pub fn baseline_family(stable: &Family) -> Family {
    let base = stable.as_str().strip_suffix("-canary");
    let base = base.filter(|base| !base.is_empty());
    Family::new(format!("{}-baseline", base.unwrap_or(stable.as_str())))
}

/// Whether something bears the name of a canary, or a baseline, beside which `canary` would stand: of another deployment of the same stable.
pub fn is_another_canary_of(name: &str, canary: &str) -> bool {
    is_canary_name(name) && name != canary && base_name(name) == base_name(canary)
}

/// Whether something bears a name that [`canary_name`] or [`baseline_name`] gives.
pub fn is_canary_name(name: &str) -> bool {
    base_name(name) != name
}

fn base_name(stable: &str) -> &str {
    let is_id = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let copies = ["-canary-", "-baseline-"].into_iter();
    let mut bases = copies.filter_map(|copy| match stable.rsplit_once(copy) {
        Some((base, id)) if !base.is_empty() && is_id(id) => Some(base),
        _ => None,
    });
    bases.next().unwrap_or(stable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> DeploymentId {
        DeploymentId::of(&ExecutionArn::new(
            "arn:aws:states:eu-west-1:1:execution:serin:one",
        ))
    }

    #[test]
    fn what_stands_beside_an_execution_is_in_its_partition_region_and_account() {
        let execution = ExecutionArn::new("arn:aws-cn:states:cn-north-1:1:execution:serin:one");
        assert_eq!(
            execution.arn_beside("appmesh", None, "mesh/m"),
            "arn:aws-cn:appmesh:cn-north-1:1:mesh/m"
        );
        assert_eq!(
            execution.arn_beside("appmesh", Some("2"), "mesh/m"),
            "arn:aws-cn:appmesh:cn-north-1:2:mesh/m"
        );
    }

    #[test]
    fn the_same_execution_always_gives_the_same_id() {
        assert_eq!(id(), id());
        assert_eq!(id().as_str().len(), 8);
    }

    #[test]
    fn a_canary_of_a_former_canary_does_not_grow_a_longer_name() {
        let first = canary_name("checkout", &id(), 255);
        let second = canary_name(&first, &id(), 255);
        assert_eq!(first, format!("checkout-canary-{}", id()));
        assert_eq!(second, first);
    }

    #[test]
    fn the_baselines_names_are_no_canarys_and_are_known_for_what_they_are() {
        let (canary, baseline) = (
            canary_name("checkout", &id(), 32),
            baseline_name("checkout", &id(), 32),
        );
        assert_eq!(baseline, format!("checkout-baseline-{}", id()));
        assert!(is_canary_name(&baseline) && is_another_canary_of(&baseline, &canary));
        let families = ["checkout", "checkout-canary"].map(|of| baseline_family(&Family::new(of)));
        assert_eq!(
            families.map(|family| family.to_string()),
            ["checkout-baseline"; 2]
        );
        let execution = ExecutionArn::new("arn:aws:states:eu-west-1:1:execution:serin:one");
        assert_ne!(DeploymentId::of_baseline(&execution), id());
    }

    #[test]
    fn a_neighbour_that_was_once_a_canary_is_not_taken_for_another_canary_of_ours() {
        let ours = canary_name("checkout", &id(), 32);
        assert!(is_another_canary_of("checkout-canary-0a1b2c3d", &ours));
        assert!(!is_another_canary_of("payments-canary-0a1b2c3d", &ours));
        assert!(!is_another_canary_of("checkout", &ours));
        assert!(!is_another_canary_of(&ours, &ours));
    }

    #[test]
    fn a_long_name_is_cut_before_the_part_that_makes_it_unique() {
        let name = canary_name(&"x".repeat(300), &id(), 63);
        assert_eq!(name.len(), 63);
        assert!(name.ends_with(&format!("-canary-{}", id())));
    }

    #[test]
    fn the_canary_never_shares_stables_family() {
        assert_eq!(
            canary_family(&Family::new("checkout")).as_str(),
            "checkout-canary"
        );
        assert_eq!(
            canary_family(&Family::new("checkout-canary")).as_str(),
            "checkout"
        );
        assert_eq!(
            canary_family(&Family::new("-canary")).as_str(),
            "-canary-canary"
        );
    }
}
