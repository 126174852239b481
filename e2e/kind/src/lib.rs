//! What the tests on a cluster stand on: the cluster's client, namespaces of their own, load that counts failures, and
//! waiting for conditions. The tests themselves are in `tests/kind`; `make e2e` makes the cluster and runs them.
