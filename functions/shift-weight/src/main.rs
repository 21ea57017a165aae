//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("shift-weight", async |aws: &Adapters, input| {
        shift_weight::shift_weight(&aws.fleet, &aws.router, &aws.ledger, input).await
    })
    .await
}
