//! Moves the traffic to the weight of the plan's next step
