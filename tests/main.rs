//! Contracts, simulation and end to end.
