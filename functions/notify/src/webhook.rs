//! A notice as a signed webhook, after the specification "Standard Webhooks" (<https://www.standardwebhooks.com>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serin::Notice;
use serin::ports::Secret;
use sha2::{Digest, Sha256};

use crate::web::Post;

/// How a key begins.
pub(crate) const KEY_PREFIX: &str = "whsec_";

/// The name of a notice among those of all deployments: the same each time it is sent.
pub fn id(notice: &Notice) -> String {
    let digest = Sha256::digest(format!("{}/{}", notice.execution, notice.id));
    let digits = u128::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"));
    format!("msg_{digits:032x}")
}

/// The signature of a body that is sent at this second under this name.
pub fn signature(key: &Secret, id: &str, second: i64, body: &str) -> String {
    let key = self::key(key.reveal()).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key may have any length");
    mac.update(format!("{id}.{second}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The bytes of a key; nothing when it is not as the specification says.
pub(crate) fn key(text: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(text.strip_prefix(KEY_PREFIX)?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// The request.
pub(crate) fn post(url: &Secret, key: &Secret, notice: &Notice) -> Post {
    Post {
        url: url.clone(),
        bearer: None,
        signed: Some((id(notice), key.clone())),
        body: serde_json::to_string(notice).expect("a notice has string keys only"),
    }
}
