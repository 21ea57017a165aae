//! The words of a canary deployment and the ports that its steps need
