//! What operator and sidecar both say: protocol, SPIFFE identities, names.
