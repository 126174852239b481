//! Custom resources of Weft, and tolerant types of the Gateway API objects it reads.
