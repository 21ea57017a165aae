//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("plan-deployment", async |aws: &Adapters, input| {
        plan_deployment::plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
            .await
    })
    .await
}
