//! The decisions of Tollgate: time, limits, the algorithms' arithmetic, and judging a check.
//!
//! The service, its memory store and the Redis module run this code; Redis without the module runs
//! its twin in `lua/`. There is no I/O here, no runtime, and no store: whatever decides takes `now`
//! and the rows as arguments. Modules are declared in the order of their dependencies.

pub mod time;
pub mod algorithm;
pub mod limit;
pub mod judge;
pub mod packed;
