//! What the tests on a cluster stand on: the cluster's client, namespaces of their own, load that counts failures, and
//! waiting for conditions. The tests themselves are in `tests/kind`; `make e2e` makes the cluster and runs them.

pub mod cluster;
pub mod command;
pub mod exec;
pub mod load;
pub mod report;
pub mod runner;
pub mod settings;
pub mod space;
pub mod tokens;
pub mod wait;
pub mod wire;

use std::time::Duration;

/// How long a test waits for what should happen at once.
pub const SOON: Duration = Duration::from_secs(30);
/// How long a test waits for pods to come, go or be replaced; two cores carry a whole cluster.
pub const ROLLOUT: Duration = Duration::from_mins(3);
