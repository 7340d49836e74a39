//! The files that run Tollgate, as far as no container engine is needed.

mod balancer;
mod chart;
mod compose;
pub mod dashboard;
mod docker;
mod kubernetes;
mod release;
mod systemd;
