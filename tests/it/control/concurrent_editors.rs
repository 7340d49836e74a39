//! Many clients change resources through several nodes at the same time: none of them loses a race,
//! and nothing is lost.
//! Needs programs besides Rust, so `make fast` skips it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::{TOKEN, as_bearer, call, node};
use crate::support::node::Node;
use crate::support::redis::RedisServer;

const NODES: usize = 3;
const CLIENTS: usize = 30;
/// A key is on at most 16 plans, and each client puts its key on two at most.
const KEYS: usize = 6;
/// Each is 13 edits or more. `EDITOR_ROUNDS=16` makes 200 edits of a client.
const ROUNDS: usize = 4;
/// The runs that may be given up, since Redis gave no reply for half a second.
const GIVEN_UP: usize = 3;
/// The rounds after which what a client has kept is deleted as well.
const KEPT_ROUNDS: usize = 2;

/// The resources that all clients change.
struct Shared {
    api: String,
    root: String,
    keys: Vec<String>,
}

/// The resources that a client expects by the responses that it got.
#[derive(Default)]
struct Expected {
    plans: BTreeMap<String, String>,
    resources: BTreeMap<String, BTreeSet<String>>,
    variables: BTreeMap<String, String>,
    plans_of_key: BTreeSet<String>,
}

struct Client<'n> {
    nodes: &'n [Node],
    shared: &'n Shared,
    number: usize,
    rounds: usize,
    requests: usize,
    expected: Expected,
    /// The plans and the resources that it has kept, the oldest first: the ids of plans, and paths
    /// in the API with those in the admin API.
    kept_plans: VecDeque<String>,
    kept_resources: VecDeque<(String, String)>,
}

impl Client<'_> {
    /// Sends a request that has to succeed; `None` if Redis gave no reply for half a second. Each
    /// goes to another node than the one before it.
    #[expect(clippy::needless_pass_by_value, reason = "json! makes a value")]
    fn send(&mut self, method: &str, path: &str, body: Value) -> Option<Value> {
        self.requests += 1;
        let node = &self.nodes[(self.number + self.requests) % self.nodes.len()];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = as_bearer(node, TOKEN, method, path, &body);
        if response.status == 503 {
            return None;
        }
        assert!((200..300).contains(&response.status), "{method} {path}: {response:?}");
        Some(if response.body.is_empty() { Value::Null } else { response.json() })
    }

    fn patch(&mut self, path: &str, member: &str, value: &str) -> Option<Value> {
        let operation = json!({"op": "replace", "path": member, "value": value});
        self.send("PATCH", path, json!({"patchOperations": [operation]}))
    }

    fn run(mut self) -> Option<Expected> {
        for round in 0..self.rounds {
            let name = format!("{}-{round}", self.number);
            self.change_plans(&name)?;
            self.change_api(&name)?;
        }
        assert!(self.requests >= self.rounds * 25 / 2, "{} edits", self.requests);
        Some(self.expected)
    }

    /// Makes two plans, deletes one of them and one of an earlier round, and puts the shared key on
    /// the other.
    fn change_plans(&mut self, name: &str) -> Option<()> {
        if self.kept_plans.len() == KEPT_ROUNDS {
            let old = self.kept_plans.pop_front().unwrap();
            self.send("DELETE", &format!("/usageplans/{old}"), Value::Null)?;
            self.expected.plans.remove(&old);
            self.expected.plans_of_key.remove(&old);
        }
        let throttle = json!({"rateLimit": 1, "burstLimit": 1});
        let plan = |name: &str| json!({"name": name, "alongside": true, "throttle": throttle});
        let kept = text(&self.send("POST", "/usageplans", plan("unnamed"))?["id"]);
        let deleted = text(&self.send("POST", "/usageplans", plan(name))?["id"]);
        self.patch(&format!("/usageplans/{kept}"), "/name", name)?;
        let key = &self.shared.keys[self.number % KEYS];
        let link = json!({"keyId": key, "keyType": "API_KEY"});
        self.send("POST", &format!("/usageplans/{kept}/keys"), link.clone())?;
        if self.expected.plans_of_key.len() == 1 {
            self.send("DELETE", &format!("/usageplans/{kept}/keys/{key}"), Value::Null)?;
        } else {
            self.expected.plans_of_key.insert(kept.clone());
        }
        self.send("DELETE", &format!("/usageplans/{deleted}"), Value::Null)?;
        self.kept_plans.push_back(kept.clone());
        self.expected.plans.insert(kept, name.to_owned());
        Some(())
    }

    /// Makes resources, methods and a variable of the stage in the shared API.
    fn change_api(&mut self, name: &str) -> Option<()> {
        let Shared { api, root, .. } = self.shared;
        if self.kept_resources.len() == KEPT_ROUNDS {
            let (path, old) = self.kept_resources.pop_front().unwrap();
            self.send("DELETE", &old, Value::Null)?;
            self.expected.resources.remove(&path);
        }
        let above = format!("/restapis/{api}/resources/{root}");
        for part in [format!("kept-{name}"), format!("deleted-{name}")] {
            let made = self.send("POST", &above, json!({"pathPart": part}))?;
            let resource = format!("/restapis/{api}/resources/{}", text(&made["id"]));
            let method = json!({"authorizationType": "NONE", "apiKeyRequired": true});
            self.send("PUT", &format!("{resource}/methods/GET"), method)?;
            if part.starts_with("deleted") {
                self.send("DELETE", &resource, Value::Null)?;
            } else {
                self.kept_resources.push_back((format!("/{part}"), resource));
                self.expected.resources.insert(format!("/{part}"), ["GET".to_owned()].into());
            }
        }
        let variable = format!("v{}", name.replace('-', "_"));
        self.patch(
            &format!("/restapis/{api}/stages/prod"),
            &format!("/variables/{variable}"),
            name,
        )?;
        self.expected.variables.insert(variable, name.to_owned());
        Some(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[test]
fn no_edit_through_three_nodes_at_once_loses_a_race_or_is_lost() {
    let rounds = std::env::var("EDITOR_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let is_done = (0..=GIVEN_UP).any(|_| edit_at_once(rounds));
    assert!(is_done, "Redis gave no reply for half a second in each of {GIVEN_UP} runs");
}

/// Edits by all clients through all nodes, of which none fails or is lost; false if it was given up.
fn edit_at_once(rounds: usize) -> bool {
    let redis = RedisServer::start();
    let nodes = [0; NODES].map(|_| node(None, &["--store", &redis.url()]));
    let post = |path: &str, body: Value| call(&nodes[0], "POST", path, body);
    let api = post("/restapis", json!({"name": "shared"}));
    let (api, root) = (text(&api["id"]), text(&api["rootResourceId"]));
    post(&format!("/restapis/{api}/deployments"), json!({"stageName": "prod"}));
    let key = |_| text(&post("/apikeys", json!({"name": "shared", "enabled": true}))["id"]);
    let shared = Shared { api, root, keys: (0..KEYS).map(key).collect() };
    let all = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| {
            let expected = Expected::default();
            let (kept_plans, kept_resources) = Default::default();
            let client = Client {
                nodes: &nodes,
                shared: &shared,
                number,
                rounds,
                requests: 0,
                expected,
                kept_plans,
                kept_resources,
            };
            scope.spawn(|| client.run())
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Option<Vec<_>>>()
    });
    let Some(all) = all else { return false };
    let mut expected = Expected::default();
    for Expected { plans, resources, variables, plans_of_key } in all {
        expected.plans.extend(plans);
        expected.resources.extend(resources);
        expected.variables.extend(variables);
        expected.plans_of_key.extend(plans_of_key);
    }
    for node in &nodes {
        let shown = read_all(node, &shared);
        assert_eq!(shown.plans, expected.plans);
        assert_eq!(shown.resources, expected.resources);
        assert_eq!(shown.variables, expected.variables);
        assert_eq!(shown.plans_of_key, expected.plans_of_key);
    }
    true
}

/// All that a node shows of the resources.
fn read_all(node: &Node, Shared { api, keys, .. }: &Shared) -> Expected {
    let get = |path: &str| call(node, "GET", path, Value::Null);
    let items = |path: &str| get(path)["item"].as_array().cloned().unwrap_or_default();
    let mut shown = Expected::default();
    for plan in items("/usageplans?limit=500") {
        let id = text(&plan["id"]);
        if items(&format!("/usageplans/{id}/keys"))
            .iter()
            .any(|it| keys.iter().any(|key| it["id"] == **key))
        {
            shown.plans_of_key.insert(id.clone());
        }
        shown.plans.insert(id, text(&plan["name"]));
    }
    for resource in items(&format!("/restapis/{api}/resources?limit=500&embed=methods")) {
        let methods = resource["resourceMethods"].as_object();
        if let Some(methods) = methods {
            let methods = methods.keys().cloned().collect();
            shown.resources.insert(text(&resource["path"]), methods);
        }
    }
    let stage = get(&format!("/restapis/{api}/stages/prod"));
    let variables = stage["variables"].as_object().into_iter().flatten();
    shown.variables = variables.map(|(name, value)| (name.clone(), text(value))).collect();
    shown
}

#[test]
fn after_a_conflict_the_next_commit_is_that_editors() {
    let redis = RedisServer::start();
    let script = include_str!("../../../lua/registry_commit.lua");
    let commit = |editor: &str, was: &str, becomes: &str| -> u64 {
        let keys = ["", ":paths", ":touched", ":revision", ":notes", ":turn", ":names"];
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(keys.len());
        for key in keys {
            command.arg(format!("tg:{{registry}}{key}"));
        }
        let exists = if was.is_empty() { "01" } else { "11" };
        let life_ms = 60_000;
        command.arg(10_000).arg(100).arg(editor).arg(life_ms).arg(exists);
        command.arg(2).arg("").arg("a note").arg("another").arg("document").arg(was).arg(becomes);
        command.query(&mut redis.connection()).unwrap()
    };
    assert_eq!(commit("fast", "", "1"), 1);
    assert_eq!(commit("slow", "", "2"), 0, "another commit was first");
    assert_eq!(commit("fast", "1", "2"), 0, "it is the turn of the slow editor");
    assert_eq!(commit("", "1", "2"), 2, "keys and older nodes take no turns");
    assert_eq!(commit("slow", "1", "3"), 0, "that was first again");
    assert_eq!(commit("fast", "2", "3"), 0, "the slow editor keeps its turn");
    assert_eq!(commit("slow", "2", "3"), 3);
    assert_eq!(commit("fast", "3", "4"), 4, "no turn is left behind");
}
