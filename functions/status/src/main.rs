//! The Lambda: the adapters, handed to the step.

use serin_aws::{Adapters, Error, run_step};
use status::Calls;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run_step("status", async |aws: &Adapters, input| {
        let calls = Calls {
            status: &aws.widget.status,
            decide: &aws.widget.decide,
        };
        status::status(&aws.ledger, calls, input).await
    })
    .await
}
