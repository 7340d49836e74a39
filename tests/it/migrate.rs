//! Migration from other rate limiters. From AWS: the script of the guide, run between two nodes. The
//! first node stands for AWS, whose API it has; a proxy decides of which keys the values are told.
//! From Azure and Google: the guide's catalogs.
//! Needs programs besides Rust, so `make fast` skips it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::http;
use crate::support::node::Node;
use crate::support::repository;

const ACCESS: [(&str, &str); 4] = [
    ("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"),
    ("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests"),
    ("TOLLGATE_ADMIN_ACCESS_KEY_ID", "AKIATEST"),
    ("TOLLGATE_ADMIN_SECRET_ACCESS_KEY", "a-secret-for-tests"),
];

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "json! makes a value")]
fn call(node: &Node, method: &str, path: &str, body: Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let bearer = ("authorization", "Bearer a-token-for-tests");
    let answer = http::send(node.admin(), method, path, &[bearer], &body);
    assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    if answer.body.is_empty() { json!(null) } else { answer.json() }
}

/// Starts a proxy of `admin` that tells these values of keys, by their ids, and no other; one request
/// per connection.
fn proxy_with_values(admin: &str, values: BTreeMap<&'static str, &'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let admin = admin.to_owned();
    std::thread::spawn(move || {
        for mut client in listener.incoming().filter_map(Result::ok) {
            let mut request = Vec::new();
            // The requests have no body.
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if client.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            let head = String::from_utf8(request).unwrap();
            let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut node = TcpStream::connect(&admin).unwrap();
            node.write_all(head.as_bytes()).unwrap();
            let mut answer = String::new();
            node.read_to_string(&mut answer).unwrap();
            let (status, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = status.lines().next().unwrap();
            let mut body: Value = serde_json::from_str(body).unwrap();
            for item in body["item"].as_array_mut().into_iter().flatten() {
                let told = values.get(item["id"].as_str().unwrap_or_default()).copied();
                item["value"] = json!(told);
            }
            let body = body.to_string();
            let length = body.len();
            let _gone = write!(
                client,
                "{status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    address
}

fn migrate(from: &str, to: &Node) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new(repository("target/python/bin/python"))
        .arg(repository("deploy/migrate/aws.py"))
        .args(["--from", &format!("http://{from}"), "--to", &format!("http://{}", to.admin())])
        .envs(ACCESS)
        .envs([("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "a-secret-for-tests")])
        .envs([("AWS_DEFAULT_REGION", "eu-central-1"), ("no_proxy", "127.0.0.1")])
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// The resources of a node's admin API, without dates and generated ids.
fn resources(node: &Node) -> Vec<Value> {
    fn strip_generated(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|name, _| {
                    !name.ends_with("Date") && name != "deploymentId" && name != "rootResourceId"
                });
                members.values_mut().for_each(strip_generated);
            }
            Value::Array(items) => items.iter_mut().for_each(strip_generated),
            _ => {}
        }
    }
    let paths =
        ["/restapis", "/restapis/shop/stages", "/usageplans", "/apikeys", "/usageplans/free/keys"];
    let mut answers: Vec<_> =
        paths.iter().map(|path| call(node, "GET", path, json!(null))).collect();
    answers.iter_mut().for_each(strip_generated);
    answers
}

#[test]
fn migration_copies_plans_keys_and_stages_with_their_ids_and_lists_the_rest() {
    let [aws, tollgate] = [(); 2].map(|()| Node::launch(None, &[], &ACCESS));
    let id = |id: &str| json!({"_custom_id_": id, "team": "shop"});
    call(&aws, "POST", "/restapis", json!({"name": "Shop", "tags": id("shop")}));
    let deployment = call(&aws, "POST", "/restapis/shop/deployments", json!({}));
    let stage = json!({"stageName": "prod", "deploymentId": deployment["id"]});
    call(&aws, "POST", "/restapis/shop/stages", stage);
    let replace = |path: &str, value: &str| json!({"op": "replace", "path": path, "value": value});
    let limits = json!({"patchOperations": [
        replace("/*/*/throttling/rateLimit", "50.5"), replace("/*/*/throttling/burstLimit", "20"),
        replace("/~1carts/POST/throttling/rateLimit", "0.5"), replace("/~1carts/POST/throttling/burstLimit", "2"),
    ]});
    call(&aws, "PATCH", "/restapis/shop/stages/prod", limits);
    let served = json!({"apiId": "shop", "stage": "prod", "throttle": {"/carts/GET": {"rateLimit": 5.0, "burstLimit": 9}}});
    let plan = json!({
        "name": "Free", "tags": id("free"), "apiStages": [served],
        "throttle": {"rateLimit": 10.0, "burstLimit": 3}, "quota": {"limit": 1000, "period": "MONTH"},
    });
    call(&aws, "POST", "/usageplans", plan);
    let (value, other) = ("acmes-own-value-0123456789", "nobodys-own-value-0123456789");
    for (name, value, enabled) in
        [("acme", value, true), ("off", other, false), ("untold", "untold-untold-untold", true)]
    {
        let key = json!({"name": name, "value": value, "enabled": enabled, "customerId": "c-1", "tags": id(name)});
        call(&aws, "POST", "/apikeys", key);
        call(&aws, "POST", "/usageplans/free/keys", json!({"keyId": name, "keyType": "API_KEY"}));
    }
    let address = proxy_with_values(aws.admin(), BTreeMap::from([("acme", value), ("off", other)]));

    // The second run finds everything and changes nothing.
    for _ in 0..2 {
        let (code, said) = migrate(&address, &tollgate);
        assert_eq!(
            (code, &*said),
            (Some(1), "not copied: key untold: AWS did not return its value\n")
        );
    }
    call(&aws, "DELETE", "/usageplans/free/keys/untold", json!(null));
    call(&aws, "DELETE", "/apikeys/untold", json!(null));
    assert_eq!(resources(&tollgate), resources(&aws));
    let check = json!({"api_key": value, "api": "shop", "stage": "prod", "method": "POST", "path": "/carts"});
    let answer = tollgate.check(check).json();
    assert_eq!((&answer["allowed"], &answer["key"]["id"]), (&json!(true), &json!("acme")));
    assert_eq!(answer["limits"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(tollgate.check(json!({"api_key": other})).status, 403, "switched off there too");
}

/// The catalog of a section of the guide.
fn catalog_of(heading: &str) -> String {
    let guide = std::fs::read_to_string(repository("docs/migrate.md")).unwrap();
    let (_, section) = guide.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once("```yaml\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// The names of the limits of a check that is admitted.
fn admitted(node: &Node, check: Value) -> Vec<String> {
    let answer = node.check(check).json();
    assert_eq!(answer["allowed"], true, "{answer}");
    let limits = answer["limits"].as_array().unwrap().iter();
    limits.map(|limit| limit["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_policies_of_azure_api_management_are_limits_of_the_guides_catalog() {
    let node = Node::with_catalog(&catalog_of("From Azure API Management"), &[]);
    let subscription = json!({
        "api_key": "contoso-primary-key", "api": "models", "stage": "prod", "method": "POST",
        "path": "/chat", "cost": {"requests": 1, "total_tokens": 350, "kilobytes": 12},
    });
    let names = admitted(&node, subscription.clone());
    let plan = ["throttle", "quota", "tpm", "tokens", "traffic"].map(|it| format!("starter/{it}"));
    assert_eq!(names, plan);
    let mut large = subscription;
    large["cost"]["total_tokens"] = 4_900.into();
    let refused = node.check(large);
    assert_eq!((refused.status, &refused.json()["violated"]), (429, &json!("starter/tpm")));
    for _ in 0..10 {
        admitted(&node, json!({"policy": "address", "key": "203.0.113.7"}));
    }
    let refused = node.check(json!({"policy": "address", "key": "203.0.113.7"}));
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(admitted(&node, json!({"policy": "user", "key": "u-1"})), ["policy:user/quota"]);
}

#[test]
fn the_policies_of_apigee_and_googles_gateway_are_limits_of_the_guides_catalog() {
    let heading = "From Apigee and Google's API Gateway";
    let node = Node::with_catalog(&catalog_of(heading), &[]);
    let app = json!({
        "api_key": "shop-consumer-key",
        "cost": {"requests": 1, "input_tokens": 40, "total_tokens": 350, "read_requests": 2},
    });
    let names = admitted(&node, app.clone());
    let plan = ["throttle", "quota", "hourly", "prompts", "tokens", "reads"];
    assert_eq!(names, plan.map(|it| format!("bronze/{it}")));
    // 30pm is one request in two seconds, whatever else is left.
    let refused = node.check(app);
    assert_eq!((refused.status, &refused.json()["violated"]), (429, &json!("bronze/throttle")));
    let spike = json!({"policy": "client", "key": "c-1"});
    assert_eq!(admitted(&node, spike.clone()), ["policy:client/throttle"]);
    assert_eq!(node.check(spike).status, 429);
}
