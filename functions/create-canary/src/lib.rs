//! Starts the canary beside stable and waits until it is ready
