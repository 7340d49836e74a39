//! Methods that need no API key, and APIs whose keys are named by the gateway, as AWS' API declares
//! them.

use serde_json::{Value, json};

use super::{call, node, plan_and_key};
use crate::support::http::{Response, send_raw};
use crate::support::node::Node;

/// An API with a stage, and a key on a plan of every stage.
struct Declared<'n> {
    node: &'n Node,
    api: String,
    key_id: String,
    key: String,
}

impl<'n> Declared<'n> {
    /// `GET /` and `OPTIONS /chat` need no key, `POST /chat` and `PATCH /chat` need one.
    fn new(node: &'n Node) -> Self {
        let (key_id, key, _) = plan_and_key(node, 1_000_000);
        let made = call(node, "POST", "/restapis", json!({"name": "pets"}));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let declared = Self { node, api: text(&made["id"]), key_id, key };
        let root = format!("resources/{}", text(&made["rootResourceId"]));
        let chat = declared.call("POST", &root, json!({"pathPart": "chat"}));
        let chat = format!("resources/{}", text(&chat["id"]));
        for (resource, method, needs_key) in
            [(&root, "GET", false), (&chat, "OPTIONS", false), (&chat, "POST", true)]
        {
            let method = format!("{resource}/methods/{method}");
            let body = json!({"authorizationType": "NONE", "apiKeyRequired": needs_key});
            declared.call("PUT", &method, body);
        }
        // A signature of IAM's is not verified here, so this method is not for anybody.
        let signed = json!({"authorizationType": "AWS_IAM", "apiKeyRequired": false});
        declared.call("PUT", &format!("{chat}/methods/PATCH"), signed);
        declared.call("POST", "deployments", json!({"stageName": "prod"}));
        declared.put_method(&chat, "GET");
        declared
    }

    fn call(&self, method: &str, below: &str, body: Value) -> Value {
        call(
            self.node,
            method,
            format!("/restapis/{}/{below}", self.api).trim_end_matches('/'),
            body,
        )
    }

    fn put_method(&self, resource: &str, method: &str) {
        let body = json!({"authorizationType": "NONE"});
        self.call("PUT", &format!("{resource}/methods/{method}"), body);
    }

    fn patch(&self, below: &str, operations: &[(&str, &str)]) {
        let operation =
            |(path, value): &(&str, &str)| json!({"op": "replace", "path": path, "value": value});
        let operations: Vec<_> = operations.iter().map(operation).collect();
        self.call("PATCH", below, json!({"patchOperations": operations}));
    }

    fn body(&self, method: &str, path: &str, client: &Value) -> Value {
        let mut body = json!({"api": self.api, "stage": "prod", "method": method, "path": path});
        body.as_object_mut().unwrap().extend(client.as_object().unwrap().clone());
        body
    }

    fn check(&self, method: &str, path: &str, client: &Value) -> Response {
        self.node.check(self.body(method, path, client))
    }

    fn authz(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let forwarded = [("x-forwarded-method", method), ("x-forwarded-uri", path)];
        let headers = [&forwarded, headers].concat();
        self.node.send("GET", &format!("/authz?api={}&stage=prod", self.api), &headers, "")
    }
}

pub fn methods_need_keys_as_declared(node: &Node) {
    let it = Declared::new(node);
    let nobody = json!({});
    let with_key = json!({"api_key": it.key});
    let answer = it.check("OPTIONS", "/chat", &nobody);
    assert_eq!((answer.status, &answer.json()["key"]), (200, &Value::Null), "{answer:?}");
    assert_eq!(it.check("GET", "/", &nobody).status, 200);
    assert_eq!(it.check("POST", "/chat", &with_key).status, 200);
    let refused =
        [("POST", "/chat"), ("PATCH", "/chat"), ("GET", "/chat"), ("PUT", "/"), ("GET", "/other")];
    for (method, path) in refused {
        let answer = it.check(method, path, &nobody);
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        assert!(answer.body.contains("send an api_key"), "{answer:?}");
    }
    // Other paths, since the service behind the gateway may read them so.
    for path in ["/Chat", "\\chat", "/%2563hat", "/chat%5c"] {
        let answer = it.check("OPTIONS", path, &nobody);
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    assert_eq!(it.check("OPTIONS", "/%63hat", &nobody).status, 200, "an escape is decoded once");
    // A key is charged wherever it may be used, and ignored where it may not and none is needed.
    let charged = it.check("OPTIONS", "/chat", &with_key).json();
    assert_eq!(charged["key"]["id"], it.key_id);
    let unknown = json!({"api_key": "some-token-of-the-upstream"});
    assert_eq!(it.check("POST", "/chat", &unknown).status, 403);
    let answer = it.check("OPTIONS", "/chat", &unknown);
    assert_eq!((answer.status, &answer.json()["key"]), (200, &Value::Null), "{answer:?}");
    // Forward-auth and a batch judge the same.
    let token = [("authorization", "Bearer some-token-of-the-upstream")];
    let key = [("x-api-key", &*it.key)];
    let statuses = [("OPTIONS", &[][..]), ("OPTIONS", &token), ("POST", &[]), ("POST", &token)]
        .map(|(method, headers)| it.authz(method, "/chat", headers).status);
    assert_eq!(statuses, [200, 200, 403, 403]);
    assert_eq!(it.authz("POST", "/chat", &key).status, 200);
    // A token of the upstream service may be longer than an API key.
    let long = format!("Bearer {}", "a".repeat(1_500));
    let long = [("authorization", &*long)];
    let statuses = ["OPTIONS", "POST"].map(|method| it.authz(method, "/chat", &long).status);
    assert_eq!(statuses, [200, 400]);
    // Neither header can be an API key's: a name in Latin-1, and two of them.
    let raw = |method: &str, headers: &[u8]| {
        let target = format!("GET /authz?api={}&stage=prod HTTP/1.1\r\nhost: a\r\n", it.api);
        let forwarded = format!("x-forwarded-method: {method}\r\nx-forwarded-uri: /chat\r\n");
        let request =
            [target.as_bytes(), forwarded.as_bytes(), headers, b"connection: close\r\n\r\n"];
        send_raw(node.address(), &request.concat()).unwrap().status
    };
    for headers in [&b"x-api-key: Andr\xe9\r\n"[..], b"x-api-key: a\r\nx-api-key: b\r\n"] {
        assert_eq!(["OPTIONS", "POST"].map(|method| raw(method, headers)), [200, 400]);
    }
    let checks = [("OPTIONS", &nobody), ("POST", &nobody), ("OPTIONS", &unknown)];
    let checks = checks.map(|(method, client)| it.body(method, "/chat", client));
    let batch = node.send("POST", "/check/batch", &[], &json!({"checks": checks}).to_string());
    let results = batch.json()["results"].clone();
    let statuses: Vec<_> = (0..3).map(|place| results[place]["status"].clone()).collect();
    assert_eq!(statuses, [200, 400, 200], "{results}");
    // As in AWS, a changed method takes effect with its deployment.
    it.call("POST", "deployments", json!({"stageName": "prod"}));
    assert_eq!(it.check("GET", "/chat", &nobody).status, 200);
    the_limits_of_the_stage_hold(&it, node);
    the_gateway_names_the_keys(&it);
}

fn the_limits_of_the_stage_hold(it: &Declared<'_>, node: &Node) {
    let nobody = json!({});
    let limits = [
        ("/throttle/rateLimit", "0.001"),
        ("/throttle/burstLimit", "3"),
        ("/~1chat/OPTIONS/throttling/rateLimit", "0.001"),
        ("/~1chat/OPTIONS/throttling/burstLimit", "2"),
    ];
    it.patch("stages/prod", &limits);
    let statuses = ["OPTIONS", "OPTIONS", "OPTIONS", "GET", "GET"]
        .map(|method| it.check(method, "/chat", &nobody));
    let violated: Vec<_> = statuses.iter().map(|it| it.json()["violated"].clone()).collect();
    let (method, stage) = (
        json!(format!("stage:{}/prod/OPTIONS /chat/throttle", it.api)),
        json!(format!("stage:{}/prod/throttle", it.api)),
    );
    assert_eq!(violated, [Value::Null, Value::Null, method, Value::Null, stage]);
    let counted = format!("plan=\"stage:{}/prod\"", it.api);
    assert!(node.get("/metrics").body.contains(&counted), "the stage is their label");
    it.patch("stages/prod", &[("/throttle/rateLimit", "1000"), ("/throttle/burstLimit", "1000")]);
}

fn the_gateway_names_the_keys(it: &Declared<'_>) {
    it.patch("", &[("/apiKeySource", "AUTHORIZER")]);
    let refused = it.check("POST", "/chat", &json!({"api_key": it.key}));
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("AUTHORIZER") && refused.body.contains("key_id"), "{refused:?}");
    assert_eq!(it.authz("POST", "/chat", &[("x-api-key", &it.key)]).status, 403);
    let named = it.check("POST", "/chat", &json!({"key_id": it.key_id}));
    assert_eq!((named.status, &named.json()["key"]["id"]), (200, &json!(it.key_id)));
    assert_eq!(it.check("GET", "/chat", &json!({})).status, 200);
    assert_eq!(it.check("GET", "/chat", &json!({"api_key": it.key})).json()["key"], Value::Null);
    it.patch("", &[("/apiKeySource", "HEADER")]);
    assert_eq!(it.check("POST", "/chat", &json!({"api_key": it.key})).status, 200);
}

#[test]
fn methods_without_a_need_for_a_key_pass_without_one_in_memory() {
    methods_need_keys_as_declared(&node(None, &["--check-deadline", "5s"]));
}
