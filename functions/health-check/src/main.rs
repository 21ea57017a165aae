//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("health-check", async |aws: &Adapters, input| {
        health_check::health_check(&aws.fleet, &aws.signals, &aws.ledger, input).await
    })
    .await
}
