//! For tests: AWS in memory with its rules, faults, a virtual clock and the state machine's interpreter
