//! The files that run Tollgate, as far as no container engine is needed.

mod docker;
mod systemd;
