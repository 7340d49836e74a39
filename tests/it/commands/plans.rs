//! Plans created, changed and deleted by `tollgate plans`.

use serde_json::{Value, json};

use super::{node, run, shown, table};

#[test]
fn a_plan_is_created_with_an_id_from_its_name_that_responses_show() {
    let node = node();
    let made = shown(&node, "plans create Basic --rate 10 --burst 20 --quota 1000/day");
    assert_eq!((&made["id"], &made["name"]), (&json!("basic"), &json!("Basic")));
    assert_eq!(made["quota"], json!({"limit": 1000, "offset": 0, "period": "DAY"}));
    let key = shown(&node, "keys create acme --plan Basic");
    let answer = node.check(json!({"api_key": key["value"]}));
    assert_eq!(answer.json()["key"]["plan"], "basic");
    assert!(node.get("/metrics").body.contains(r#"plan="basic""#));
    let (code, _, stderr) = run(&node, "plans create basic");
    assert!(code == Some(2) && stderr.contains("exists already"), "{stderr}");
    assert_eq!(shown(&node, "plans create basic --id basic-2")["id"], "basic-2");
    // Now the name is that of a plan, and the id of the other: the id precedes.
    assert_eq!(shown(&node, "plans show basic")["name"], "Basic");
}

#[test]
fn a_rate_is_written_and_shown_in_the_unit_of_time_that_fits() {
    let node = node();
    for (id, rate, text) in
        [("a-b", "1/h --burst 2", "1/h, burst 2 "), ("c", "0.5", "30/min "), ("d", "2.5", "2.5/s ")]
    {
        shown(&node, &format!("plans create {id} --rate {rate}"));
        assert!(table(&node, "plans list").contains(text), "{}", table(&node, "plans list"));
    }
    let audited = table(&node, "plans set a-b --rate 3/d") + &table(&node, "audit --limit 1");
    assert!(audited.contains("3/d") && audited.contains("/usageplans/a-b"), "{audited}");
}

#[test]
fn a_plan_is_changed_and_what_is_not_named_stays() {
    let node = node();
    let limits = r#"[{"name":"tpd","unit":"tokens","quota":{"limit":5,"period":"day"}}]"#;
    shown(&node, &format!("plans create Basic --rate 1 --burst 2 --limits {limits}"));
    let changed = shown(&node, "plans set Basic --burst 7 --quota 50/month --time-zone Asia/Tokyo");
    assert_eq!(changed["throttle"], json!({"burstLimit": 7, "rateLimit": 1.0}));
    assert_eq!(changed["quota"]["timeZone"], "Asia/Tokyo");
    assert_eq!(changed["limits"], serde_json::from_str::<Value>(limits).unwrap());
    let changed = shown(&node, "plans set basic --no-throttle --no-quota --mode shadow");
    assert_eq!((&changed["throttle"], &changed["quota"]), (&json!(null), &json!(null)));
    assert_eq!(changed["mode"], "shadow");
    for (words, reason) in [
        ("plans set basic", "nothing to change"),
        ("plans set nowhere --rate 1", "`tollgate plans list`"),
        ("plans set basic --quota 5", "as in 1000/day"),
        ("plans create x --burst 5", "add --rate"),
        ("plans create x --time-zone UTC", "add --quota"),
        ("plans create x --limits {}", "a JSON list"),
        ("plans create !", "--id"),
    ] {
        let (code, out, stderr) = run(&node, words);
        assert!(code == Some(2) && out.is_empty() && stderr.contains(reason), "{words}: {stderr}");
    }
}

#[test]
fn a_plan_that_serves_a_stage_is_deleted_only_by_force() {
    let node = node();
    let bearer = ("authorization", "Bearer a-token-for-tests");
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        crate::support::http::send(node.admin(), "POST", path, &[bearer], &body).json()
    };
    let api = post("/restapis", json!({"name": "inference", "tags": {"_custom_id_": "inference"}}));
    assert_eq!(api["id"], "inference");
    post("/restapis/inference/deployments", json!({"stageName": "prod"}));
    shown(&node, "plans create Basic --stage inference:prod");
    shown(&node, "plans create Free");
    let (code, _, stderr) = run(&node, "plans delete Basic");
    assert!(code == Some(2) && stderr.contains("inference/prod"), "{stderr}");
    assert!(stderr.contains("--force"), "{stderr}");
    assert_eq!(table(&node, "plans delete Basic --force"), "");
    assert_eq!(table(&node, "plans delete Free"), "");
    assert_eq!(shown(&node, "plans list"), json!([]));
}
