//! The Lambda: the adapters, handed to the step.

use notify::http::HttpWeb;
use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let web = HttpWeb::new()?;
    run_step("notify", async |aws: &Adapters, event| {
        notify::notify(&aws.channels, &aws.deliveries, &aws.topics, &web, event).await
    })
    .await
}
