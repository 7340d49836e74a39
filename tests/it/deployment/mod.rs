//! The files that run Tollgate, as far as no container engine is needed.

mod balancer;
mod compose;
mod docker;
mod systemd;
