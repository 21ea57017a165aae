//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("sweep", async |aws: &Adapters, input| {
        sweep::sweep(&aws.ledger, &aws.recoveries, input).await
    })
    .await
}
