//! What workers share by: the standard library's lock and atomics. Code that several workers run at once names them by
//! this module, so that `e2e/interleave` can build the same files with loom's in their place.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
