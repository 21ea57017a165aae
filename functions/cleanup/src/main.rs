//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("cleanup", async |aws: &Adapters, input| {
        cleanup::cleanup(&aws.fleet, &aws.router, &aws.ledger, input).await
    })
    .await
}
