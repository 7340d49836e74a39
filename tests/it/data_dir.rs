//! The files of `--data-dir`: full disks, damage, and who may read them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::eventually;
use crate::support::http::{self, Response};
use crate::support::node::Node;
use crate::support::process::Process;

const ADMIN: (&str, &str) = ("TOLLGATE_ADMIN_TOKEN", "the-token-of-the-admin");
const WEBHOOKS: (&str, &str) =
    ("TOLLGATE_WEBHOOK_SECRET", "whsec_dG9sbGdhdGUtdG9sbGdhdGUtdG9sbGdh");

fn flags(folder: &Path) -> Vec<&str> {
    vec![
        "--listen-admin",
        "127.0.0.1:0",
        "--drain-delay",
        "0s",
        "--data-dir",
        folder.to_str().unwrap(),
    ]
}

fn node(folder: &Path) -> Node {
    Node::with_limited_files(&flags(folder), &[ADMIN])
}

fn create_key(node: &Node, name: &str) -> Response {
    let headers = [("authorization", "Bearer the-token-of-the-admin")];
    http::send(node.admin(), "POST", "/apikeys", &headers, &json!({ "name": name }).to_string())
}

fn left(node: &Node, cost: u64) -> u64 {
    let answer = node.check(json!({"policy": "login", "key": "a", "cost": cost}));
    answer.json()["limits"][0]["remaining"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
}

fn status(node: &Node) -> String {
    node.get("/readyz").body
}

#[test]
fn a_log_that_cannot_be_written_is_lost_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let logged = node.log().len() as u64;
    // The file of standard error takes no further line.
    node.limit_files(Some(logged));
    for _ in 0..10 {
        // Each edit is logged. It fails, since the disk is that of the folder as well.
        assert_eq!(create_key(&node, "a").status, 503);
        assert_eq!(node.get("/healthz").status, 200);
    }
    node.limit_files(None);
    eventually("edits are served", || create_key(&node, "a").status == 201);
    assert!(node.log().len() as u64 > logged, "and so are log lines");
    assert_eq!(node.stop(), Some(0));
}

#[test]
fn a_disk_that_was_full_is_used_again_once_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(dir.path());
    assert_eq!(create_key(&first, "before").status, 201);
    assert!(status(&first).contains("ok"));
    first.limit_files(Some(8_192));
    let failed = || first.metric("tollgate_store_errors_total", r#"kind="disk""#);
    assert_eq!(failed(), 0.0);
    left(&first, 1);
    eventually("the counters cannot be saved", || status(&first).contains("degraded"));
    assert!(failed() >= 1.0);
    let refused = create_key(&first, "full");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(first.check(json!({"policy": "login", "key": "b"})).status, 200, "still judged");
    first.limit_files(None);
    eventually("the counters are saved again", || status(&first).contains("ok"));
    eventually("keys are created again", || create_key(&first, "after").status == 201);
    let before = left(&first, 1);
    assert_eq!(first.stop(), Some(0));
    let second = node(dir.path());
    assert!(left(&second, 0) <= before + 1, "what was charged on a full disk is not lost");
    let headers = [("authorization", "Bearer the-token-of-the-admin")];
    let keys = http::send(second.admin(), "GET", "/apikeys", &headers, "").json();
    let names = keys["item"].as_array().unwrap().iter().map(|key| key["name"].clone());
    assert_eq!(names.collect::<Vec<_>>().len(), 2, "{keys}");
}

#[test]
fn a_stop_that_cannot_save_the_counters_exits_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = node(dir.path());
    node.limit_files(Some(8_192));
    left(&node, 1);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.exit_code(), Some(2));
    let log = node.log();
    assert!(log.contains("counters of the last seconds are lost") && log.contains("counts.redb"));
}

/// The message of a node that does not start; `None` if it starts.
fn refusal(folder: &Path) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let args = ["serve", "--listen", "127.0.0.1:0", "--webhook-url", "http://127.0.0.1:9/"];
    command.args(args).args(flags(folder)).envs([ADMIN, WEBHOOKS]);
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
    if lines.map_while(Result::ok).any(|line| line.contains("listening on ")) {
        return None;
    }
    let mut text = String::new();
    process.child().stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(process.wait().code(), Some(2), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    Some(text)
}

#[test]
fn a_file_that_was_emptied_or_damaged_is_named_and_not_begun_anew() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut flags = flags(dir.path());
    flags.extend(["--webhook-url", "http://127.0.0.1:9/"]);
    let first = Node::launch(None, &flags, &[ADMIN, WEBHOOKS]);
    for key in 0..2_000 {
        first.check(json!({"policy": "login", "key": format!("k{key}"), "cost": 1}));
    }
    for number in 0..20 {
        assert_eq!(create_key(&first, &format!("key{number}")).status, 201);
    }
    assert_eq!(first.stop(), Some(0));
    for name in ["counts.redb", "tollgate.redb", "outbox.redb"] {
        let (whole, path) = (fs::read(dir.path().join(name)).unwrap(), copy.path().join(name));
        let begin = |bytes: &[u8]| {
            for other in ["counts.redb", "tollgate.redb", "outbox.redb"] {
                fs::copy(dir.path().join(other), copy.path().join(other)).unwrap();
            }
            fs::write(&path, bytes).unwrap();
        };
        let mut zeros = whole.clone();
        zeros[..512].fill(0);
        for (why, bytes) in [
            ("emptied", &[][..]),
            ("cut to half", &whole[..whole.len() / 2]),
            ("cut to a page", &whole[..4_096]),
            ("without a header", &zeros),
        ] {
            begin(bytes);
            let text = refusal(copy.path()).unwrap_or_else(|| panic!("{name} {why}"));
            assert!(text.contains(path.to_str().unwrap()), "{name} {why}: {text}");
            assert!(text.contains("restore it") || text.contains("restore the file"), "{text}");
            assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64, "{name} {why}");
        }
        // Pages that are in use are found damaged; the service starts beside those that are not.
        let pages: Vec<usize> = (1..whole.len() / 4_096).collect();
        let mut found = 0;
        for page in pages.iter().step_by(pages.len().div_ceil(40)) {
            let mut bytes = whole.clone();
            let page = &mut bytes[page * 4_096..][..4_096];
            if page.iter().all(|byte| *byte == 0) {
                continue;
            }
            for byte in page {
                *byte ^= 0x5a;
            }
            begin(&bytes);
            if let Some(text) = refusal(copy.path()) {
                found += 1;
                assert!(text.contains(path.to_str().unwrap()), "{name}: {text}");
                assert!(text.contains("is damaged"), "{text}");
            }
        }
        assert!(found > 0, "{name}");
    }
}

#[test]
fn the_folder_and_its_files_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("made/by/tollgate");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let first = node(&folder);
    assert_eq!(mode(&folder), 0o700);
    for name in ["counts.redb", "tollgate.redb"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert_eq!(first.stop(), Some(0));
    // As an earlier release left them.
    fs::set_permissions(folder.join("counts.redb"), fs::Permissions::from_mode(0o644)).unwrap();
    let _second = node(&folder);
    assert_eq!(mode(&folder.join("counts.redb")), 0o600);
}

/// The value of the key with this id, as the admin API shows it.
fn value_of(node: &Node, id: &str) -> serde_json::Value {
    let headers = [("authorization", "Bearer the-token-of-the-admin")];
    let path = format!("/apikeys/{id}?includeValue=true");
    http::send(node.admin(), "GET", &path, &headers, "").json()["value"].clone()
}

#[test]
fn values_of_keys_are_kept_under_a_key_that_is_made_beside_them_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key_encryption_key");
    let first = node(dir.path());
    let made = create_key(&first, "a").json();
    let (id, value) = (made["id"].as_str().unwrap(), &made["value"]);
    assert_eq!(value_of(&first, id), *value);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap();
    assert!(!first.log().contains("TOLLGATE_KEY_ENCRYPTION_KEY is missing"));
    assert_eq!(first.stop(), Some(0));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let again = node(dir.path());
    assert_eq!(value_of(&again, id), *value);
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(again.stop(), Some(0));
    // A configured key encrypts from now on, and the file's still decrypts.
    let configured =
        ("TOLLGATE_KEY_ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let both = Node::launch(None, &flags(dir.path()), &[ADMIN, configured]);
    assert_eq!(value_of(&both, id), *value);
    assert_eq!(both.stop(), Some(0));
    for broken in ["", "c2hvcnQ=", "no base64"] {
        fs::write(&file, broken).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags(dir.path()))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let says = error.contains("key_encryption_key") && error.contains("delete it to begin");
        assert!(says, "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), broken, "it is never overwritten");
    }
}

#[test]
fn without_a_data_directory_values_of_keys_are_kept_for_the_life_of_the_process() {
    let node = Node::launch(None, &["--listen-admin", "127.0.0.1:0"], &[ADMIN]);
    let made = create_key(&node, "a").json();
    assert_eq!(value_of(&node, made["id"].as_str().unwrap()), made["value"]);
}
