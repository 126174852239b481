//! Weft's operator: watches resources, compiles and publishes sidecar configuration, issues identities.
