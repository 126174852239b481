//! The three rules in use, the boundaries of time, and a model that the breaker must agree with.
