//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("rollback", async |aws: &Adapters, input| {
        rollback::rollback(&aws.fleet, &aws.router, &aws.ledger, input).await
    })
    .await
}
