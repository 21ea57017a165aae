//! Measures the canary, gives a verdict and says what comes next
