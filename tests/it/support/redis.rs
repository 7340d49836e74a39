//! A redis-server for one test, whose clock can be set.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use rustix::process::Signal;
use tempfile::TempDir;
use tollgate::time::Micros;

use super::process::Process;
use super::{eventually, free_port, repository};

/// The server that the tests run on: `REDIS_SERVER`, or Debian's. A Valkey adds to its clock what a
/// timer of its own has measured, so tests that set the clock always run on Debian's.
fn program(with_clock: bool) -> String {
    let chosen = std::env::var("REDIS_SERVER").ok();
    let chosen = chosen.filter(|path| !(with_clock && path.ends_with("valkey-server")));
    chosen.unwrap_or("redis-server".into())
}

/// A running redis-server without persistence.
pub struct RedisServer {
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
    with_clock: bool,
    process: Option<Process>,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launch(arguments, false)
    }

    /// Starts with a clock that can be set; until then it shows the machine's time.
    pub fn start_with_clock() -> Self {
        Self::launch(&[], true)
    }

    /// Starts with the module, and with a clock that can be set.
    pub fn start_with_module() -> Self {
        Self::launch(&MODULE.each_ref().map(String::as_str), true)
    }

    /// The arguments that load the module.
    pub fn module_arguments() -> [&'static str; 4] {
        MODULE.each_ref().map(String::as_str)
    }

    fn launch(arguments: &[&str], with_clock: bool) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("clock"), [0; 16]).unwrap();
        let mut server = Self { dir, port: free_port(), arguments, with_clock, process: None };
        server.restart();
        server
    }

    /// Restarts the server. Its data is gone.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(program(self.with_clock));
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir"]);
        command.arg(self.dir.path()).args(["--port", &self.port.to_string()]).args(&self.arguments);
        command.stdout(Stdio::null());
        if self.with_clock {
            command
                .env("LD_PRELOAD", &*CLOCK_SHIM)
                .env("CLOCK_FILE", self.dir.path().join("clock"));
        }
        let mut process = Process::spawn(&mut command);
        let address = ("127.0.0.1", if self.has_tls() { self.tls_port() } else { self.port });
        eventually("redis-server listens", || {
            assert!(!process.has_ended(), "redis-server ended at once: {command:?}");
            TcpStream::connect(address).is_ok()
        });
        self.process = Some(process);
    }

    /// Restarts the server without the module, with the data on its disk.
    pub fn restart_without_module(&mut self) {
        self.arguments.drain(..RedisServer::module_arguments().len());
        self.restart();
    }

    fn has_tls(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--tls-port")
    }

    pub fn tls_port(&self) -> u16 {
        let place = self.arguments.iter().position(|argument| argument == "--tls-port").unwrap();
        self.arguments[place + 1].parse().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Runs a command and returns the reply.
    pub fn command(&self, words: &[&str]) -> redis::Value {
        self.try_command(words).unwrap()
    }

    /// Runs a command that may fail.
    pub fn try_command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connection())
    }

    /// Runs a command whose reply is text.
    pub fn command_text(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.command(words)).unwrap()
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// The number of script calls that the server has run.
    pub fn script_calls(&self) -> u64 {
        let info: String =
            redis::cmd("INFO").arg("commandstats").query(&mut self.connection()).unwrap();
        let calls =
            |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
        info.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum()
    }

    /// The number of calls that the module has judged.
    pub fn module_calls(&self) -> u64 {
        let info = self.command_text(&["INFO", "commandstats"]);
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_tg.judge:calls="));
        calls.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or_default()
    }

    /// The URL of a user who may not call the module.
    pub fn url_without_module(&self) -> String {
        self.command(&["ACL", "SETUSER", "script", "on", ">pass", "~*", "+@all", "-tg.judge"]);
        format!("redis://script:pass@127.0.0.1:{}", self.port)
    }

    /// True if it was started with the module.
    pub fn has_module(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--loadmodule")
    }

    /// Stops the clock at `now`.
    pub fn set_clock(&self, now: Micros) {
        self.write_clock(1, now.get().cast_signed());
    }

    /// Lets the clock run `micros` ahead of the machine's.
    pub fn shift_clock(&self, micros: i64) {
        self.write_clock(0, micros);
    }

    fn write_clock(&self, mode: i64, value: i64) {
        use std::os::unix::fs::FileExt as _;
        assert!(self.with_clock);
        // Written in place: the server has mapped this file.
        let file = fs::OpenOptions::new().write(true).open(self.dir.path().join("clock")).unwrap();
        file.write_all_at(&[mode.to_ne_bytes(), value.to_ne_bytes()].concat(), 0).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The arguments that load the module, which is built once for all tests, and allow to unload it.
static MODULE: LazyLock<[String; 4]> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "tollgate-redis", "--target-dir"]);
    build.arg(target).current_dir(repository(""));
    assert!(build.status().unwrap().success(), "{build:?}: `make tools` installs what it needs");
    let library = target.join("debug/libtollgate_redis.so").to_str().unwrap().to_owned();
    ["--loadmodule".into(), library, "--enable-module-command".into(), "yes".into()]
});

/// The compiled clock shim, built once for all tests.
static CLOCK_SHIM: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = repository("tests/it/support/clock_shim.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("clock_shim-{}.so", std::process::id()));
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compile.status().unwrap().success(), "{compile:?}");
    library
});
