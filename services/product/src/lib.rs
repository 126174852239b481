//! The shop's product service.
