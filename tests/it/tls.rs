//! TLS of the listeners: handshakes, client certificates, and reloads while serving.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::http;
use crate::support::node::Node;
use crate::support::tls::{Authority, IssuedCert, TlsClient};

/// A folder with a server's certificate and key, and the authority that signed them.
struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() };
        files.renew();
        std::fs::write(files.path("ca.pem"), &files.authority.pem).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces the server's certificate and key.
    fn renew(&self) -> IssuedCert {
        let issued = self.authority.issue();
        issued.write(&self.path("cert.pem"), &self.path("key.pem"));
        issued
    }

    fn flags(&self, names: &[&str]) -> Vec<String> {
        let file = |name: &str| match name {
            "--tls-client-ca" => "ca.pem",
            name if name.ends_with("key") => "key.pem",
            _ => "cert.pem",
        };
        let path = |name| self.path(file(name)).display().to_string();
        names.iter().flat_map(|name| [(*name).to_owned(), path(name)]).collect()
    }
}

const PAIR: [&str; 2] = ["--tls-cert", "--tls-key"];
const MUTUAL: [&str; 3] = ["--tls-cert", "--tls-key", "--tls-client-ca"];

fn node(flags: &[String]) -> Node {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let admin =
        [("TOLLGATE_LISTEN_ADMIN", "127.0.0.1:0"), ("TOLLGATE_ADMIN_TOKEN", "a-token-for-tests")];
    Node::launch(None, &flags, &admin)
}

fn metric(client: &TlsClient, node: &Node, name: &str) -> f64 {
    let metrics = client.send(node.address(), "GET /metrics").unwrap().body;
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn checks_and_the_admin_api_are_served_over_tls_only() {
    let files = Files::new();
    let node = node(&files.flags(&PAIR));
    let client = TlsClient::trusting(&files.authority, None);
    let mut connection = client.open(node.address());
    assert_eq!(connection.send("GET /readyz").unwrap().status, 200);
    assert_eq!(connection.protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(
        client.send(node.admin(), "GET /apikeys").unwrap().status,
        403,
        "by its own authorization"
    );
    for address in [node.address(), node.admin()] {
        assert!(http::try_send(address, "GET", "/healthz", &[], "").is_none(), "without TLS");
    }
    let stranger = TlsClient::trusting(&Authority::new(), None);
    assert!(
        stranger.send(node.address(), "GET /readyz").is_none(),
        "a client that trusts another authority"
    );
    let port = node.address().rsplit(':').next().unwrap();
    let ready = |ca: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["ready", "--url", &format!("https://localhost:{port}"), "--ca"]);
        command.arg(files.path(ca)).output().unwrap().status.code()
    };
    assert_eq!((ready("ca.pem"), ready("missing.pem")), (Some(0), Some(2)));
}

#[test]
fn commands_connect_to_a_service_that_requires_client_certificates() {
    let files = Files::new();
    let node = node(&files.flags(&MUTUAL));
    let run = |trust: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["plans", "list", "--token", "a-token-for-tests", "--url"]);
        command.arg(node.admin().replace("127.0.0.1", "https://localhost"));
        command.args(trust).current_dir(files.dir.path()).output().unwrap()
    };
    let known = run(&["--ca", "ca.pem", "--client-cert", "cert.pem", "--client-key", "key.pem"]);
    assert!(known.status.success() && known.stdout.starts_with(b"ID "), "{known:?}");
    for (trust, why) in [(&[] as &[&str], "--ca"), (&["--ca", "ca.pem"], "no response")] {
        let output = run(trust);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
}

#[test]
fn envoys_grpc_is_served_over_tls() {
    let files = Files::new();
    let limits = "domain: d\ndescriptors: [ { key: k, rate_limit: { unit: second, requests_per_unit: 1 } } ]\n";
    std::fs::write(files.path("limits.yaml"), limits).unwrap();
    let mut flags = files.flags(&PAIR);
    flags.extend(["--listen-grpc", "127.0.0.1:0", "--envoy-config"].map(str::to_owned));
    flags.push(files.path("limits.yaml").display().to_string());
    let node = node(&flags);
    let mut connection = TlsClient::trusting(&files.authority, None).open(node.grpc());
    // The preface and an empty SETTINGS frame; the response is a SETTINGS frame.
    let settings = connection.answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!((connection.protocol(), settings[3]), (Some(&b"h2"[..]), 4));
}

#[test]
fn a_client_without_a_certificate_of_the_authority_is_refused_at_the_handshake() {
    let files = Files::new();
    let node = node(&files.flags(&MUTUAL));
    let known = TlsClient::trusting(&files.authority, Some(&files.authority.issue()));
    let stranger = TlsClient::trusting(&files.authority, Some(&Authority::new().issue()));
    let nobody = TlsClient::trusting(&files.authority, None);
    for address in [node.address(), node.admin()] {
        assert!(known.send(address, "GET /healthz").is_some());
        assert!(stranger.send(address, "GET /healthz").is_none());
        assert!(nobody.send(address, "GET /healthz").is_none());
    }
    eventually("each is counted", || {
        metric(&known, &node, "tollgate_tls_handshakes_failed_total") == 4.0
    });
}

#[test]
fn certificates_are_reloaded_while_serving_and_connections_stay_open() {
    let files = Files::new();
    let node = node(&files.flags(&PAIR));
    let client = TlsClient::trusting(&files.authority, None);
    let shown = || {
        let mut connection = client.open(node.address());
        connection.send("GET /healthz").unwrap();
        connection.certificate()
    };
    let mut open = client.open(node.address());
    open.send("GET /healthz").unwrap();
    let renewed = files.renew();
    assert_ne!(open.certificate(), renewed.der());
    eventually("new handshakes see the new certificate", || shown() == renewed.der());
    assert_eq!(open.send("GET /healthz").unwrap().status, 200);
    // Files that are not valid change nothing, and the reason is logged.
    let failed =
        || metric(&client, &node, r#"tollgate_certificate_reloads_total{result="failed"}"#);
    let other = files.authority.issue();
    std::fs::write(files.path("key.pem"), &other.key).unwrap();
    eventually("the wrong key is noticed", || failed() >= 1.0);
    let why = |part: &str| node.log().lines().any(|line| line.contains(part));
    assert!(why("key.pem does not belong to the certificate in"), "{}", node.log());
    assert_eq!(shown(), renewed.der());
    std::fs::write(files.path("cert.pem"), &other.cert).unwrap();
    eventually("both halves are there", || shown() == other.der());
    let ok = || metric(&client, &node, r#"tollgate_certificate_reloads_total{result="ok"}"#);
    let before = ok();
    node.signal(Signal::HUP);
    // There are two listeners: for checks, and for the admin API.
    eventually("SIGHUP reloads what has not changed", || ok() >= before + 2.0);
}

#[test]
fn a_session_is_not_resumed_after_its_authority_was_replaced() {
    let files = Files::new();
    let node = node(&files.flags(&MUTUAL));
    let known = TlsClient::trusting(&files.authority, Some(&files.authority.issue()));
    let mut open = known.open(node.address());
    assert!(open.send("GET /healthz").is_some());
    let next = Authority::new();
    std::fs::write(files.path("ca.pem"), &next.pem).unwrap();
    let newcomer = TlsClient::trusting(&files.authority, Some(&next.issue()));
    eventually("the new authority counts", || {
        newcomer.send(node.address(), "GET /healthz").is_some()
    });
    assert!(known.send(node.address(), "GET /healthz").is_none());
    assert!(open.send("GET /healthz").is_some(), "open connections stay open");
}

#[test]
fn a_connection_without_a_handshake_times_out() {
    let files = Files::new();
    let node = node(&files.flags(&PAIR));
    assert!(http::is_cut_off_within(node.address(), b"\x16\x03\x01", Duration::from_secs(15)));
}

#[test]
fn start_up_fails_with_the_name_of_an_invalid_certificate_or_key_file() {
    let files = Files::new();
    let write = |name: &str, text: &str| {
        std::fs::write(files.path(name), text).unwrap();
        files.path(name).display().to_string()
    };
    let IssuedCert { cert, key } = files.authority.issue();
    let (cert, key) = (write("a.pem", &cert), write("a.key", &key));
    let other = write("other.key", &files.authority.issue().key);
    let empty = write("empty.pem", "");
    let torn = write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let missing = files.path("missing.pem").display().to_string();
    let no_der = write("der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<&str>, Vec<&str>)> = vec![
        ("no such file",      vec!["--tls-cert", &missing, "--tls-key", &key],  vec![&missing, "No such file"]),
        ("no certificate",    vec!["--tls-cert", &empty, "--tls-key", &key],    vec![&empty, "no certificate"]),
        ("half a file",       vec!["--tls-cert", &torn, "--tls-key", &key],     vec![&torn, "PEM"]),
        ("no such form",      vec!["--tls-cert", &no_der, "--tls-key", &key],   vec![&no_der]),
        ("no key",            vec!["--tls-cert", &cert, "--tls-key", &cert],    vec![&cert, "no private key"]),
        ("another's key",     vec!["--tls-cert", &cert, "--tls-key", &other],   vec![&other, &cert, "belong"]),
        ("half a pair",       vec!["--tls-cert", &cert],                        vec!["tls_cert", "set both"]),
        ("half a pair",       vec!["--admin-tls-key", &key],                    vec!["admin_tls_cert"]),
        ("no certificate",    vec!["--tls-client-ca", &cert],                   vec!["tls_client_ca", "tls_cert"]),
        ("no authority",      vec!["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &empty], vec![&empty]),
        ("no authority",      vec!["--tls-cert", &cert, "--tls-key", &key, "--admin-tls-client-ca", &no_der], vec![&no_der]),
    ];
    for (why, flags, parts) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{why}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{why}: {parts:?} in {said}");
    }
}
