//! `tollgate usage` prints the same of usage in Redis and in memory.
//! Needs programs besides Rust, so `make fast` skips it.

use serde_json::json;

use super::usage::{last, today, with_plans};
use super::{shown, table};
use crate::support::redis::RedisServer;

#[test]
fn usage_is_of_this_month_in_the_plans_time_zone_unless_dates_are_given() {
    let redis = RedisServer::start();
    for store in [&["--store", &*redis.url()][..], &[]] {
        let node = with_plans(store);
        let body = json!({"api_key": "key-a", "cost": {"requests": 3, "total_tokens": 70}});
        assert_eq!(node.check(body).status, 200);
        assert_eq!(node.check(json!({"api_key": "key-c"})).status, 200);
        let day = today("Pacific/Kiritimati");
        let usage = shown(&node, "usage basic");
        assert_eq!(usage["startDate"], day.first_of_month().to_string());
        assert_eq!(usage["endDate"], day.to_string());
        assert_eq!(usage["values"]["a"].as_array().unwrap().last(), Some(&json!([3, 997])));
        let listed = table(&node, "usage basic");
        let day = day.to_string();
        let rows: Vec<Vec<&str>> =
            listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let head = vec!["KEY", "DAY", "USED", "REMAINING"];
        assert_eq!(rows, [head, vec!["a", &day, "3", "997"], vec!["b", &day, "0", "1000"]]);
        let tokens = table(&node, "usage basic --key a --unit total_tokens");
        assert_eq!(last(&tokens)[2..], ["70", "430"]);
        assert_eq!(last(&table(&node, "usage open"))[2..], ["1", "-"]);
        let dates = shown(&node, &format!("usage basic --from 2026-01-01 --to {}", "2026-01-02"));
        assert_eq!(dates["values"]["b"], json!([[0, 1000], [0, 1000]]));
    }
}
