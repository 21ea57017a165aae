//! The adapters between the ports of Serin and AWS, and the Lambda runtime
