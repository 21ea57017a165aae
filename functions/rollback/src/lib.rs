//! After failure: gives stable all the traffic, then removes the canary
