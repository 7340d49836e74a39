//! Real gateways with the shipped configurations, in which only addresses are replaced.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::{eventually, free_port, repository};

/// A gateway in front of an upstream that echoes the head of the request.
pub struct Gateway {
    _dir: TempDir,
    process: Process,
    address: String,
}

impl Gateway {
    /// Starts the gateway `kind`, which sends check requests to `tollgate`.
    pub fn start(kind: &str, tollgate: &str) -> Self {
        Self::launch(kind, &shipped(kind), tollgate)
    }

    /// Starts it with the configuration's option to admit every request if Tollgate is unreachable.
    pub fn start_fail_open(kind: &str, tollgate: &str) -> Self {
        let files = shipped(kind).into_iter().map(|(name, text)| (name, with_fail_open(&text)));
        Self::launch(kind, &files.collect::<Vec<_>>(), tollgate)
    }

    /// Starts an Envoy with a configuration of the test's own. Its listeners on the ports 9001 and
    /// 9002 are moved to free ports.
    pub fn start_envoy(config: &str, tollgate: &str) -> Self {
        let free = [9001, 9002].map(|port| (format!("port_value: {port}"), free_port()));
        let config = free.iter().fold(config.to_owned(), |config, (shipped, port)| {
            config.replace(shipped, &format!("port_value: {port}"))
        });
        Self::launch("envoy", &[("envoy.yaml".into(), config)], tollgate)
    }

    fn launch(kind: &str, files: &[(String, String)], tollgate: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, echo) = (format!("127.0.0.1:{}", free_port()), echo());
        let replacements = [
            ("127.0.0.1:8000", &*address),
            ("127.0.0.1:8080", tollgate),
            ("127.0.0.1:9000", &echo),
            // Envoy's configuration has ports in members of their own.
            ("port_value: 8000", &format!("port_value: {}", port(&address))),
            ("port_value: 8081", &format!("port_value: {}", port(tollgate))),
            ("port_value: 9000", &format!("port_value: {}", port(&echo))),
        ];
        for (name, text) in files {
            let text = replacements
                .iter()
                .fold(text.clone(), |text, (shipped, here)| text.replace(shipped, here));
            fs::write(dir.path().join(name), text).unwrap();
        }
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = command(kind, dir.path());
        let process =
            Process::spawn(command.current_dir(dir.path()).stdout(Stdio::null()).stderr(log));
        eventually(&format!("{kind} listens"), || TcpStream::connect(&address).is_ok());
        Self { _dir: dir, process, address }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Gateway {
    /// Ends the gateway with a signal: killed, nginx would leave its workers behind.
    fn drop(&mut self) {
        if !self.process.has_ended() {
            self.process.signal(Signal::TERM);
            let _status = self.process.wait();
        }
    }
}

/// The files of a shipped configuration, by name.
fn shipped(kind: &str) -> Vec<(String, String)> {
    let files = fs::read_dir(repository("deploy/gateways").join(kind)).unwrap();
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    };
    files.map(file).collect()
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

/// A configuration with the lines marked `fail-open` enabled and those marked `fail-closed`
/// removed.
fn with_fail_open(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once("  # ") {
        Some((line, "fail-open")) => Some(line.replacen("# ", "", 1)),
        Some((_, "fail-closed")) => None,
        _ => Some(line.to_owned()),
    };
    text.lines().filter_map(line).map(|line| line + "\n").collect()
}

fn command(kind: &str, dir: &Path) -> Command {
    // Debian installs some gateways in directories that only root has in its PATH.
    let folders = [Path::new("/usr/sbin"), Path::new("/usr/bin"), &repository("target/python/bin")];
    let found = folders.map(|folder| folder.join(kind));
    let mut command =
        Command::new(found.iter().find(|path| path.exists()).map_or(Path::new(kind), |path| path));
    match kind {
        "nginx" => {
            let settings = format!("daemon off; pid {0}/pid; error_log stderr;", dir.display());
            command
                .args(["-e", "stderr", "-g", &settings, "-p"])
                .arg(dir)
                .arg("-c")
                .arg(dir.join("nginx.conf"));
        }
        "envoy" => {
            // Several Envoys run at once: without shared memory and without an admin port.
            command.args(["-c", "envoy.yaml", "--use-dynamic-base-id", "--log-level", "error"]);
        }
        "haproxy" => drop(command.args(["-db", "-f", "haproxy.cfg"])),
        "caddy" => {
            command
                .args(["run", "--config", "Caddyfile", "--adapter", "caddyfile"])
                .env("HOME", dir);
        }
        _ => panic!("{kind}"),
    }
    command
}

/// An upstream that responds to every request with the request's head.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().filter_map(Result::ok) {
            std::thread::spawn(move || {
                let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let body = head.join("\n").to_ascii_lowercase();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _gone = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}
