//! Vectors, attacks, sources and claims.
