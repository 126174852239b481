//! What the service decides, without IO: names of rooms, frames and their limits, why a connection ends, who may how much.

pub mod closing;
pub mod frame;
pub mod pace;
pub mod room;
