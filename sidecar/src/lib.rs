//! Weft's proxy: mutual TLS, JWT, authorization, resilience, rate limits and telemetry beside every instance.
