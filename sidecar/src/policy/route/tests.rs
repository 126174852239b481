//! Matching of routes.
