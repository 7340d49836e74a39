//! A node: the binary, on free ports.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::eventually;
use super::http::{self, Response};
use super::process::Process;

/// A running node.
pub struct Node {
    dir: TempDir,
    address: String,
    admin: Option<String>,
    grpc: Option<String>,
    ops: Option<String>,
    process: Process,
}

/// The addresses on which a node says that it listens.
#[derive(Default)]
struct Addresses {
    http: Option<String>,
    admin: Option<String>,
    grpc: Option<String>,
    ops: Option<String>,
}

impl Addresses {
    /// Reads the greeting on standard output; nothing until its last line is there.
    fn of_greeting(printed: &str) -> Self {
        let Some((printed, _)) = printed.split_once("try:") else { return Self::default() };
        let after = |words: &str| {
            let address = printed.lines().find_map(|line| line.split(words).nth(1))?;
            Some(address.rsplit("://").next()?.to_owned())
        };
        Self {
            http: after("listening on "),
            admin: after("admin API on "),
            grpc: after("Envoy's gRPC on "),
            ops: after("health and metrics on "),
        }
    }

    /// Reads the greeting among JSON logs; nothing if there is none yet.
    fn of_log(log: &str) -> Self {
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let greeting = events.into_iter().find(|event| event["message"] == "listening");
        let address = |name| {
            let url = greeting.as_ref()?[name].as_str()?;
            Some(url.rsplit("://").next()?.to_owned())
        };
        Self {
            http: address("url"),
            admin: address("admin"),
            grpc: address("grpc"),
            ops: address("ops"),
        }
    }
}

impl Node {
    /// Starts a node with the built-in catalog.
    pub fn start(flags: &[&str]) -> Self {
        Self::launch(None, flags, &[])
    }

    /// Starts a node with a catalog.
    pub fn with_catalog(catalog: &str, flags: &[&str]) -> Self {
        Self::launch(Some(catalog), flags, &[])
    }

    pub fn launch(catalog: Option<&str>, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        Self::launch_by(command, catalog, flags, environment)
    }

    /// Starts a node whose writes fail, rather than end it, above the size of files that
    /// [`Node::limit_files`] sets.
    pub fn with_limited_files(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_tollgate")]);
        Self::launch_by(command, None, flags, environment)
    }

    fn launch_by(
        mut command: Command,
        catalog: Option<&str>,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(flags);
        if !flags.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        if let Some(catalog) = catalog {
            let file = dir.path().join("catalog.yaml");
            fs::write(&file, catalog).unwrap();
            command.arg("--catalog").arg(file);
        }
        command.envs(environment.iter().copied());
        let file = |name: &str| fs::File::create(dir.path().join(name)).unwrap();
        let mut process = Process::spawn(command.stdout(file("greeting")).stderr(file("log")));
        let written = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let mut addresses = Addresses::default();
        eventually("the node listens", || {
            let has_ended = process.has_ended();
            addresses = Addresses::of_greeting(&written("greeting"));
            if addresses.http.is_none() {
                addresses = Addresses::of_log(&written("log"));
            }
            addresses.http.is_some() || has_ended
        });
        let Addresses { http, admin, grpc, ops } = addresses;
        let address = http.unwrap_or_else(|| panic!("the node did not start: {}", written("log")));
        Self { dir, address, admin, grpc, ops, process }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Address of Envoy's rate limit service.
    pub fn grpc(&self) -> &str {
        self.grpc.as_deref().expect("this node has limits for Envoy")
    }

    /// Address of the listener for operation.
    pub fn ops(&self) -> &str {
        self.ops.as_deref().expect("this node has a listener for operation")
    }

    /// Address of the admin API, if it is served.
    pub fn admin_address(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// Address of the admin API.
    pub fn admin(&self) -> &str {
        self.admin_address().expect("this node has an admin API")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub fn catalog_file(&self) -> PathBuf {
        self.dir.path().join("catalog.yaml")
    }

    pub fn get(&self, path: &str) -> Response {
        http::send(&self.address, "GET", path, &[], "")
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        http::send(&self.address, method, path, headers, body)
    }

    #[expect(clippy::needless_pass_by_value, reason = "json! makes a value")]
    pub fn check(&self, body: Value) -> Response {
        self.send("POST", "/check", &[], &body.to_string())
    }

    /// Sends one check of a policy. Returns true if it was allowed.
    pub fn passes(&self, policy: &str, key: &str, cost: u64) -> bool {
        let answer = self.check(json!({"policy": policy, "key": key, "cost": cost}));
        match answer.status {
            200 => true,
            429 => false,
            _ => panic!("{answer:?}"),
        }
    }

    /// The value of a metric, summed over all label sets that contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.get("/metrics").body;
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(labels)
        };
        text.lines()
            .filter(of_name)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The most memory that the process has had, in MiB.
    pub fn peak_memory_mib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.pid().as_raw_nonzero()))
                .unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// How often its threads have gone to sleep until now.
    pub fn sleeps(&self) -> u64 {
        self.sleeps_of("")
    }

    /// The same of the threads whose names begin with `name`.
    pub fn sleeps_of(&self, name: &str) -> u64 {
        let threads = format!("/proc/{}/task", self.process.pid().as_raw_nonzero());
        let threads = fs::read_dir(threads).unwrap().map(|thread| thread.unwrap().path());
        let statuses = threads.filter_map(|thread| fs::read_to_string(thread.join("status")).ok());
        let is_named = |status: &String| status.starts_with(&format!("Name:\t{name}"));
        let sleeps = statuses.filter(is_named).filter_map(|status| {
            let line = status.lines().find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        });
        sleeps.sum()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sets the largest size of files in bytes; `None` lifts it.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.process.pid()), Resource::Fsize, limit).unwrap();
    }

    /// Stops the node with SIGTERM, and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.process.wait().code()
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.wait().code()
    }
}
