//! Amazon ECR: repositories with tagged images.

use std::collections::BTreeMap;
use std::fmt::Write;

use aws_sdk_ecr::operation::describe_images::{DescribeImagesInput, DescribeImagesOutput};
use aws_sdk_ecr::types::ImageDetail;
use aws_smithy_types::DateTime;

use crate::account::ACCOUNT;
use crate::paging::page;
use crate::wire::Refusal;
use crate::world::World;

/// The repositories of the account: tags by digest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ecr {
    pub(crate) repositories: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Ecr {
    /// Pushes an image, and gives its digest. A tag moves from the image that had it.
    pub(crate) fn push(&mut self, repository: &str, tag: &str, content: &str) -> String {
        let digest = digest(&format!("{repository}:{content}"));
        let images = self.repositories.entry(repository.to_owned()).or_default();
        for tags in images.values_mut() {
            tags.retain(|had| had != tag);
        }
        images
            .entry(digest.clone())
            .or_default()
            .push(tag.to_owned());
        digest
    }
}

/// A digest that looks like one and is the same for the same content.
fn digest(content: &str) -> String {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut text = String::from("sha256:");
    for round in 0_u8..4 {
        for byte in content.bytes().chain([round]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        write!(text, "{state:016x}").expect("a String takes everything");
    }
    text
}

impl World {
    /// The name of an image, with its tags if it is named by digest.
    pub(crate) fn name_of_image(&self, image: &str) -> String {
        let Some((repository, digest)) = image.split_once('@') else {
            return image.to_owned();
        };
        let name = repository
            .split_once('/')
            .map_or(repository, |(_, name)| name);
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        let tags = self
            .ecr
            .repositories
            .get(name)
            .and_then(|images| images.get(digest));
        let tags = tags.map(|tags| tags.join(",")).unwrap_or_default();
        format!("{repository}:{tags}")
    }
}

pub(crate) fn describe_images(
    world: &mut World,
    input: &DescribeImagesInput,
) -> Result<DescribeImagesOutput, Refusal> {
    let repository = input
        .repository_name()
        .ok_or_else(|| Refusal::new("InvalidParameterException", "repositoryName is required"))?;
    let registry = input.registry_id().unwrap_or(ACCOUNT);
    let images = world.ecr.repositories.get(repository).filter(|_| registry == ACCOUNT).ok_or_else(|| {
        let message = format!("The repository with name '{repository}' does not exist in the registry with id '{registry}'");
        Refusal::new("RepositoryNotFoundException", message)
    })?;
    for wanted in input.image_ids() {
        let exists = images.iter().any(|(digest, tags)| {
            wanted.image_digest().is_none_or(|wanted| wanted == digest)
                && wanted
                    .image_tag()
                    .is_none_or(|wanted| tags.iter().any(|tag| tag == wanted))
        });
        if !exists {
            let message = format!(
                "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name '{repository}' in the registry with id '{registry}'",
                wanted.image_digest().unwrap_or("null"),
                wanted.image_tag().unwrap_or("null"),
            );
            return Err(Refusal::new("ImageNotFoundException", message));
        }
    }
    let all: Vec<ImageDetail> = images
        .iter()
        .filter(|(digest, tags)| {
            input.image_ids().is_empty()
                || input.image_ids().iter().any(|wanted| {
                    wanted.image_digest().is_none_or(|wanted| wanted == *digest)
                        && wanted
                            .image_tag()
                            .is_none_or(|wanted| tags.iter().any(|tag| tag == wanted))
                })
        })
        .map(|(digest, tags)| {
            ImageDetail::builder()
                .registry_id(registry)
                .repository_name(repository)
                .image_digest(digest)
                .set_image_tags((!tags.is_empty()).then(|| tags.clone()))
                .image_pushed_at(DateTime::from_secs(0))
                .build()
        })
        .collect();
    let bad = || Refusal::new("InvalidParameterException", "nextToken");
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(bad)?;
    Ok(DescribeImagesOutput::builder()
        .set_image_details(Some(items))
        .set_next_token(next)
        .build())
}
