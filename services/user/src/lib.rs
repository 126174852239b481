//! The shop's user service.
