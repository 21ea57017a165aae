//! The local cloud: the real Lambdas and state machine, a real Envoy, no AWS account
