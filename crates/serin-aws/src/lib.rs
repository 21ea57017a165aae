//! The adapters between the ports of Serin and AWS, and the Lambda runtime.
//!
//! With `serin-sim` the only crate that names a type of the AWS SDK. Adapters translate and decide nothing.

mod clients;

pub use clients::Clients;
