//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("create-canary", async |aws: &Adapters, input| {
        create_canary::create_canary(&aws.fleet, &aws.router, &aws.ledger, input).await
    })
    .await
}
