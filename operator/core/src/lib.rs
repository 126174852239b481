//! The pure heart of the operator: world, compile, status, validate.
