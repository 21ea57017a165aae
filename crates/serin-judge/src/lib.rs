//! Turns measurements into a verdict with its evidence
