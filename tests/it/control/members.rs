//! Every member of AWS' requests acts, is kept and shown, or is refused.
//! Needs programs besides Rust, so `make fast` skips it.

use super::ACCESS;
use super::aws::boto3_runs;
use crate::support::node::Node;

/// A node that keeps the values of keys.
fn node() -> Node {
    let key = "TWVtYmVycyBvZiByZXF1ZXN0cyBhcmUgdHJpZWQuISE=";
    let access = [&ACCESS[..], &[("TOLLGATE_KEY_ENCRYPTION_KEY", key)]].concat();
    Node::launch(None, &[], &access)
}

#[test]
fn every_member_that_botocore_knows_acts_or_is_shown_or_is_refused_by_name() {
    boto3_runs("members.py", &node());
}
