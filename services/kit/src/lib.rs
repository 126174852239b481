//! What every shop service shares: server, settings, errors, health, shutdown, events, store, telemetry.
