//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("decide", async |aws: &Adapters, input| {
        decide::decide(&aws.ledger, &aws.ledger, &aws.decisions, input).await
    })
    .await
}
