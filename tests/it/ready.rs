//! `tollgate ready` finds the service by its settings. By its URL: `operate` and `tls`.

use std::fs;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::node::Node;
use crate::support::tls::Authority;
use crate::support::{eventually, repository};

/// Runs `tollgate ready` in the environment of a service.
fn ready(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("ready").args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// The address of a node as a container's settings have it: on every address.
fn everywhere(address: &str) -> String {
    address.replace("127.0.0.1", "0.0.0.0")
}

#[test]
fn it_asks_the_listener_of_the_settings_on_this_machine() {
    let node = Node::start(&["--drain-delay", "1min"]);
    let listen = everywhere(node.address());
    let environment = [("TOLLGATE_LISTEN", &*listen)];
    assert_eq!(code(&ready(&[], &environment)), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    fs::write(&file, format!("listen = '{listen}'")).unwrap();
    assert_eq!(code(&ready(&["--config", file.to_str().unwrap()], &[])), Some(0));
    assert_eq!(code(&ready(&[], &[("TOLLGATE_CONFIG", file.to_str().unwrap())])), Some(0));
    let other = ready(&[], &[("TOLLGATE_LISTEN", "0.0.0.0:1")]);
    let complaint = String::from_utf8_lossy(&other.stderr);
    assert!(code(&other) == Some(2) && complaint.contains("127.0.0.1:1"), "{complaint}");
    let invalid = ready(&[], &[("TOLLGATE_LISTEN", "8080")]);
    let complaint = String::from_utf8_lossy(&invalid.stderr);
    assert!(code(&invalid) == Some(2) && complaint.contains("setting `listen`"), "{complaint}");
    node.signal(Signal::TERM);
    eventually("a draining node is not ready", || code(&ready(&[], &environment)) == Some(1));
}

#[test]
fn it_connects_by_tls_if_the_settings_have_a_certificate() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    authority.issue().write(cert.as_ref(), key.as_ref());
    fs::write(&ca, &authority.pem).unwrap();

    let node = Node::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let listen = everywhere(node.address());
    let plain = [("TOLLGATE_LISTEN", &*listen)];
    assert_eq!(code(&ready(&[], &plain)), Some(2), "without TLS");
    let tls = [plain[0], ("TOLLGATE_TLS_CERT", &*cert), ("TOLLGATE_TLS_KEY", &*key)];
    assert_eq!(code(&ready(&[], &tls)), Some(0));

    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let node = Node::start(&[&flags[..], &["--listen-ops", "127.0.0.1:0"]].concat());
    let (listen, ops) = (everywhere(node.address()), everywhere(node.ops()));
    let mutual = [("TOLLGATE_LISTEN", &*listen), tls[1], tls[2], ("TOLLGATE_TLS_CLIENT_CA", &*ca)];
    let refused = ready(&[], &mutual);
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(code(&refused) == Some(2) && complaint.contains("listen_ops"), "{complaint}");
    let identity = ["--client-cert", &cert, "--client-key", &key];
    assert_eq!(code(&ready(&identity, &mutual)), Some(0));
    let with_ops = [&mutual[..], &[("TOLLGATE_LISTEN_OPS", &*ops)]].concat();
    assert_eq!(code(&ready(&[], &with_ops)), Some(0));
}

#[test]
fn the_health_check_of_the_image_follows_the_node() {
    let dockerfile = fs::read_to_string(repository("deploy/Dockerfile")).unwrap();
    let line = |start| dockerfile.lines().find_map(|line| line.strip_prefix(start)).unwrap();
    let (_, check) = line("HEALTHCHECK ").split_once(" CMD ").unwrap();
    let mut node = Node::start(&["--drain-delay", "0s"]);
    let environment = line("ENV TOLLGATE_LISTEN=").split(' ').next().unwrap();
    let (host, port) = environment.split_once(':').unwrap();
    assert_eq!((host, port), ("0.0.0.0", "8080"));
    let listen = everywhere(node.address());
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let run = || {
        let mut shell = Command::new("sh");
        shell.args(["-c", check]).env("PATH", &path).env("TOLLGATE_LISTEN", &listen);
        code(&shell.output().unwrap())
    };
    assert_eq!(run(), Some(0));
    node.signal(Signal::TERM);
    assert_eq!(node.exit_code(), Some(0));
    assert_eq!(run(), Some(1), "2 is reserved by Docker");
}
