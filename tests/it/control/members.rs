//! Every member of AWS' requests acts, is kept and shown, or is refused.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::process::Command;

use super::ACCESS;
use super::aws::boto3_runs;
use crate::support::node::Node;
use crate::support::repository;

/// A node that keeps the values of keys.
fn node() -> Node {
    let key = "TWVtYmVycyBvZiByZXF1ZXN0cyBhcmUgdHJpZWQuISE=";
    let access = [&ACCESS[..], &[("TOLLGATE_KEY_ENCRYPTION_KEY", key)]].concat();
    Node::launch(None, &[], &access)
}

#[test]
fn every_query_parameter_that_botocore_knows_acts_or_is_refused_by_name() {
    boto3_runs("queries.py", &node());
}

#[test]
fn every_member_of_a_body_that_botocore_knows_acts_or_is_shown_or_is_refused_by_name() {
    boto3_runs("bodies.py", &node());
}

/// With `UPDATE_REFERENCE` in the environment the table is written first.
#[test]
fn the_table_of_members_in_the_guide_is_made_of_botocores_model() {
    const BEGIN: &str = "<!-- made by `make reference` -->\n";
    const END: &str = "<!-- end -->\n";
    let output = Command::new(repository("target/python/bin/python"))
        .arg(repository("tests/it/aws/served.py"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = repository("docs/admin-api.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let made = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == made, "run `make reference`");
}
