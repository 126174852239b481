//! The tests on a cluster, one file per capability.
