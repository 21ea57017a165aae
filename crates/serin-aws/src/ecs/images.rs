//! Images named by their digests, so that stable and canary cannot change under a moving tag.

use aws_sdk_ecr::types::ImageIdentifier;
use serin::PortError;
use serin::ports::ImagePin;

use super::EcsFleet;
use crate::error::{has_code, port_error};

/// An image in a private registry of Amazon ECR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EcrImage<'a> {
    /// `<account>.dkr.ecr.<region>.amazonaws.com`.
    registry: &'a str,
    account: &'a str,
    region: &'a str,
    repository: &'a str,
    version: Version<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version<'a> {
    Tag(&'a str),
    Digest(&'a str),
}

impl EcsFleet {
    pub(super) async fn pin(&self, image: &str) -> Result<ImagePin, PortError> {
        let Some(parsed) = parse(image) else {
            return Ok(ImagePin::Unknown(format!(
                "{image} is not in a private registry of Amazon ECR"
            )));
        };
        let home = self
            .ecr
            .config()
            .region()
            .map(|region| region.as_ref().to_owned())
            .unwrap_or_default();
        if parsed.region != home {
            return Ok(ImagePin::Unknown(format!(
                "{image} is in the registry of {}, which is not asked from {home}",
                parsed.region
            )));
        }
        let version = match parsed.version {
            Version::Tag(tag) => ImageIdentifier::builder().image_tag(tag),
            Version::Digest(digest) => ImageIdentifier::builder().image_digest(digest),
        };
        let request = self
            .ecr
            .describe_images()
            .registry_id(parsed.account)
            .repository_name(parsed.repository);
        let answer = match request.image_ids(version.build()).send().await {
            Err(error)
                if has_code(&error, "ImageNotFoundException")
                    || has_code(&error, "RepositoryNotFoundException") =>
            {
                return Ok(ImagePin::Missing);
            }
            Err(error) => {
                return match port_error("ECR DescribeImages", &error) {
                    PortError::Denied { message, .. } => Ok(ImagePin::Unknown(format!(
                        "{image} may not be looked up: {message}"
                    ))),
                    error => Err(error),
                };
            }
            Ok(answer) => answer,
        };
        let digest = match parsed.version {
            Version::Digest(digest) => Some(digest),
            // For an image of several architectures this is the digest of the list, which is the one to name.
            Version::Tag(_) => answer
                .image_details()
                .iter()
                .find_map(|detail| detail.image_digest()),
        };
        Ok(digest.map_or(ImagePin::Missing, |digest| {
            ImagePin::Pinned(format!(
                "{}/{}@{digest}",
                parsed.registry, parsed.repository
            ))
        }))
    }
}

fn parse(image: &str) -> Option<EcrImage<'_>> {
    let (registry, path) = image.split_once('/')?;
    let host = registry
        .strip_suffix(".amazonaws.com")
        .or_else(|| registry.strip_suffix(".amazonaws.com.cn"))?;
    let (account, region) = host.split_once(".dkr.ecr.")?;
    if account.is_empty()
        || !account.bytes().all(|byte| byte.is_ascii_digit())
        || region.is_empty()
        || region.contains('.')
    {
        return None;
    }
    // `repository:tag@digest` is allowed; then the digest counts and the tag is a remark.
    let (name, digest) = match path.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (path, None),
    };
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    if repository.is_empty() {
        return None;
    }
    let version = digest.map_or(Version::Tag(tag), Version::Digest);
    Some(EcrImage {
        registry,
        account,
        region,
        repository,
        version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecr_image_is_taken_apart() {
        let image = parse("1234.dkr.ecr.eu-west-1.amazonaws.com/team/checkout:2.4.0").unwrap();
        assert_eq!(
            (image.account, image.region, image.repository),
            ("1234", "eu-west-1", "team/checkout")
        );
        assert_eq!(image.version, Version::Tag("2.4.0"));
        assert_eq!(image.registry, "1234.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(
            parse("1234.dkr.ecr.eu-west-1.amazonaws.com/checkout")
                .unwrap()
                .version,
            Version::Tag("latest")
        );
        assert_eq!(
            parse("1234.dkr.ecr.cn-north-1.amazonaws.com.cn/checkout:1")
                .unwrap()
                .region,
            "cn-north-1"
        );
    }

    #[test]
    fn a_digest_counts_more_than_a_tag() {
        let image = parse("1234.dkr.ecr.eu-west-1.amazonaws.com/checkout:2.4.0@sha256:ab").unwrap();
        assert_eq!(
            (image.repository, image.version),
            ("checkout", Version::Digest("sha256:ab"))
        );
    }

    #[test]
    fn other_registries_are_not_ecr() {
        for image in [
            "nginx",
            "nginx:1.27",
            "public.ecr.aws/nginx/nginx:1",
            "ghcr.io/a/b@sha256:ab",
            "x.dkr.ecr.eu-west-1.amazonaws.com/a",
        ] {
            assert_eq!(parse(image), None, "{image}");
        }
    }
}
