//! End-to-end tests and the bench: in-process mesh, real processes, rivals.
