//! The guides of docs/tutorial and docs/how-to, and the page on infrastructure as code, followed
//! from top to bottom as a reader would, but on free ports. A guide that cannot be followed here
//! says so in a line of its own.
//! Needs programs besides Rust, so `make fast` skips it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::guide::{Step, shows, steps};
use crate::support::{free_port, repository};

/// Begins the line of a guide that needs a container engine or a cluster, and says so.
const NOT_RUN: &str = "Not run by the tests: ";
/// The text with another number in place of each port of this machine.
fn on_free_ports(page: &str) -> (String, impl Fn(&str) -> String) {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let named = page.split("127.0.0.1:").skip(1).map(digits);
    let mut ports: Vec<String> = ["8080", "8081", "8082"].map(str::to_owned).into();
    ports.extend(named.filter(|port| !port.is_empty()));
    ports.sort();
    ports.dedup();
    let ports: Vec<_> = ports.into_iter().map(|port| (port, free_port().to_string())).collect();
    let mut text = String::new();
    let mut rest = page;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let number = digits(&rest[start..]);
        let port = ports.iter().find(|(port, _)| *port == number).map(|(_, free)| free);
        text += &rest[..start];
        text += port.unwrap_or(&number);
        rest = &rest[start + number.len()..];
    }
    text += rest;
    (text, move |port: &str| ports.iter().find(|(named, _)| named == port).unwrap().1.clone())
}

/// Writes a `tollgate` that finds the service at the ports of this run where the page names none:
/// `serve` and `ready` read them from the environment.
fn write_program(folder: &Path, admin: &str, http: &str) {
    let binary = env!("CARGO_BIN_EXE_tollgate");
    let script = format!(
        "#!/bin/sh\ncase \"$1 $*\" in\n*\\ --url\\ *) url= ;;\n\
         keys*|plans*|usage*|audit*|policies*|diff*|apply*|export*|top*|tail*) url='--url http://127.0.0.1:{admin}' ;;\n\
         check*) url='--url http://127.0.0.1:{http}' ;;\nesac\nexec {binary} \"$@\" $url\n"
    );
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("tollgate"), script).unwrap();
    fs::set_permissions(folder.join("tollgate"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Follows the guide in an empty folder that has only the programs beside the guide. Returns the
/// faults.
fn follow(path: &Path) -> Vec<String> {
    let page = fs::read_to_string(path).unwrap();
    if page.lines().any(|line| line.starts_with(NOT_RUN)) {
        return Vec::new();
    }
    let (page, port) = on_free_ports(&page);
    let steps = steps(&page);
    let place = tempfile::tempdir().unwrap();
    let [bin, work, outputs] = ["bin", "work", "outputs"].map(|name| place.path().join(name));
    write_program(&bin, &port("8082"), &port("8080"));
    fs::create_dir(&work).and_then(|()| fs::create_dir(&outputs)).unwrap();
    for program in files(path.parent().unwrap(), "py") {
        fs::copy(&program, work.join(program.file_name().unwrap())).unwrap();
    }
    // Background processes end with the shell.
    let mut script = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\nset -e\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        script += &match step {
            Step::Run { commands, .. } => {
                format!("exec >{}/{number}\n{commands}", outputs.display())
            }
            Step::Save { name, text } => {
                format!("cat >{name} <<'END_OF_FILE'\n{text}END_OF_FILE\n")
            }
        };
    }
    let (bin, python) = (bin.display(), repository("target/python/bin"));
    let inherited = std::env::var("PATH").unwrap();
    let search = format!("{bin}:{}:{inherited}:/usr/sbin:/sbin", python.display());
    let ended = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .env("PATH", search)
        .env("HOME", place.path())
        .env("TOLLGATE_LISTEN", format!("127.0.0.1:{}", port("8080")))
        .env("TOLLGATE_LISTEN_GRPC", format!("127.0.0.1:{}", port("8081")))
        .env("TOLLGATE_LISTEN_ADMIN", format!("127.0.0.1:{}", port("8082")))
        // A busy machine is no outage.
        .env("TOLLGATE_CHECK_DEADLINE", "5s")
        .current_dir(&work)
        .output()
        .unwrap();
    let mut faults = Vec::new();
    if !ended.status.success() {
        let errors = String::from_utf8_lossy(&ended.stderr);
        let last: Vec<_> = errors.lines().rev().take(20).collect();
        faults.push(format!("{}: {}: {last:#?}", path.display(), ended.status));
    }
    for (number, step) in steps.iter().enumerate() {
        let Step::Run { commands, shown } = step else { continue };
        let printed = fs::read_to_string(outputs.join(number.to_string())).unwrap_or_default();
        for shown in shown.iter().filter(|shown| !shows(&printed, shown)) {
            let page = path.display();
            faults.push(format!("{page}:\n{commands}shows\n{shown}and printed\n{printed}"));
        }
    }
    faults
}

/// The files of a folder with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

#[test]
fn every_command_of_every_guide_prints_what_the_guide_shows() {
    let folders = ["docs/tutorial", "docs/how-to"].map(repository);
    let mut pages: Vec<_> = folders.iter().flat_map(|folder| files(folder, "md")).collect();
    pages.push(repository("docs/infrastructure-as-code.md"));
    assert!(pages.len() > 5, "{pages:?}");
    let faults: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = pages.iter().map(|page| scope.spawn(|| follow(page))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
