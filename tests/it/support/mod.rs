//! What tests start for themselves: each has its own servers on its own ports, and ends them.
