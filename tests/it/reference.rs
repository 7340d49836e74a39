//! The reference of docs/reference against the program. The pages of settings and commands are made
//! from it (`make reference`); the lists of errors and of the catalog's members are compared.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use axum::http::StatusCode;
use serde_json::Value;

use crate::support::repository;

fn source(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// The help of a command, without the white space at the ends of lines.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.args(words).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// The page is what it is made of. With `UPDATE_REFERENCE` in the environment it is written first.
fn assert_page(page: &str, made: &str) {
    let path = repository("docs/reference").join(page);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    let difference = page.lines().zip(made.lines()).find(|(page, made)| page != made);
    assert!(page == made, "run `make reference`: {}: {difference:?}", path.display());
}

/// A setting's key, default, and whether it has a flag.
fn setting(line: &str, flags: &str) -> String {
    let (key, default) = line.split_once(" = ").unwrap();
    let flag = format!("--{}", key.replace('_', "-"));
    let has_flag = flags.lines().any(|line| line.trim_start().starts_with(&format!("{flag} ")));
    let shown = if has_flag { format!("`{flag}`") } else { "none: secret".to_owned() };
    let default = if default == "\"\"" { "none".to_owned() } else { format!("`{default}`") };
    format!("| `{key}` | {shown} | `TOLLGATE_{}` | {default} |\n", key.to_uppercase())
}

#[test]
fn the_reference_of_settings_is_that_of_the_program() {
    let mut page = "# Settings\n\n\
        Every setting is a key of the TOML file given with `--config`, and an environment variable. All but secrets\n\
        are flags as well. A flag overrides the environment, which overrides the file. `make reference` makes this page\n\
        from [default.toml](../../src/settings/default.toml), from which the program reads its defaults.\n"
        .to_owned();
    let flags = help(&["serve"]);
    for part in source("src/settings/default.toml").split("\n\n") {
        let (text, keys): (Vec<_>, Vec<_>) = part.lines().partition(|line| line.starts_with('#'));
        if keys.is_empty() {
            continue;
        }
        let names: Vec<_> = keys.iter().map(|line| line.split(' ').next().unwrap()).collect();
        page += &format!("\n## {}\n\n", names.join(", "));
        for line in text {
            page += &format!("{}\n", line.trim_start_matches(['#', ' ']).replace('*', "\\*"));
        }
        page += "\n| key | flag | environment | default |\n|---|---|---|---|\n";
        page.extend(keys.iter().map(|line| setting(line, &flags)));
    }
    assert_page("settings.md", &page);
}

/// Adds the help of a command and of those below it.
fn add_commands(words: &[&str], page: &mut String) {
    let text = help(words);
    let shown = text.split("\nSettings (each also").next().unwrap().trim_end();
    let name = [&["tollgate"], words].concat().join(" ");
    *page += &format!("\n## {name}\n\n```text\n{shown}\n```\n");
    let below = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    for line in below.lines().take_while(|line| !line.is_empty()) {
        // A longer line goes on with what the command does, further to the right.
        let is_name = line.starts_with("  ") && !line.starts_with("   ");
        let name = line.split_whitespace().next().filter(|name| is_name && *name != "help");
        if let Some(name) = name {
            add_commands(&[words, &[name]].concat(), page);
        }
    }
}

#[test]
fn the_reference_of_commands_is_that_of_the_program() {
    let mut page = "# Commands\n\n\
        `make reference` makes this page from the program's `--help`. The settings of `serve` are in\n\
        [Settings](settings.md).\n"
        .to_owned();
    add_commands(&[], &mut page);
    assert_page("cli.md", &page);
}

/// The rows of the table that begins with this head, as cells without backticks.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let rows = page.split_once(head).unwrap().1.lines().skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.split('|').skip(1).map(|it| it.trim().replace('`', "")).collect();
    rows.map(cells).collect()
}

/// The status whose constant has this name.
fn status_named(name: &str) -> String {
    let codes = (400..600).filter_map(|code| StatusCode::from_u16(code).ok());
    let constant = |code: &StatusCode| {
        let reason = code.canonical_reason().unwrap_or_default();
        reason.to_uppercase().replace([' ', '-'], "_")
    };
    codes.into_iter().find(|code| constant(code) == name).unwrap().as_str().to_owned()
}

#[test]
fn the_reference_of_errors_has_every_title_and_no_other() {
    let page = source("docs/reference/errors.md");
    let rows = table(&page, "| status | title |");
    let listed: BTreeSet<_> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let squeezed = |path| source(path).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut titles: BTreeSet<(String, String)> = BTreeSet::new();
    for path in ["src/http/problem.rs", "src/transport/problem.rs"] {
        for part in squeezed(path).split("StatusCode::").skip(1) {
            let Some((name, rest)) = part.split_once(", \"") else { continue };
            if name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_') {
                titles.insert((status_named(name), rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    let decisions = squeezed("src/http/decision_body.rs");
    let members = decisions.split("=> Some([ ").skip(1);
    let title = |part: &str| {
        let mut texts = part.split('"').skip(1).step_by(2);
        texts.find(|text| !text.starts_with("about:")).map(str::to_owned)
    };
    let of_decisions: BTreeSet<_> = members.filter_map(title).collect();
    assert!(titles.len() > 8 && of_decisions.len() > 4, "{titles:?} {of_decisions:?}");
    let named: BTreeSet<_> = listed.iter().map(|(_, title)| title.clone()).collect();
    let made: BTreeSet<_> =
        titles.iter().map(|(_, title)| title.clone()).chain(of_decisions).collect();
    assert_eq!(named, made);
    assert!(titles.is_subset(&listed), "{:?}", titles.difference(&listed));

    let api = source("src/http/openapi.yaml");
    let words = api.split_once("decided_by: { enum: [").unwrap().1.split(']').next().unwrap();
    let words: BTreeSet<_> = words.split(", ").map(str::to_owned).collect();
    let deciders = table(&page, "| `decided_by` | |");
    assert_eq!(deciders.into_iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), words);
}

/// The members of each `Raw…` struct that a file may have, by its name without `Raw`.
fn raw_structs() -> Vec<(String, BTreeSet<String>)> {
    let files = ["algorithms", "concurrency", "models", "raw", "sizes"];
    let text: String = files.map(|file| source(&format!("src/catalog/{file}.rs"))).concat();
    let structs = text.split("\npub struct Raw").skip(1).filter_map(|part| {
        let (name, rest) = part.split_once(" {\n")?;
        let body = rest.split("\n}").next()?;
        let (mut members, mut is_of_no_file) = (BTreeSet::new(), false);
        for line in body.lines().map(str::trim) {
            if let Some((_, alias)) = line.split_once("alias = \"") {
                members.insert(alias.split('"').next()?.to_owned());
            }
            is_of_no_file |= line.contains("skip_deserializing");
            let member = line.trim_start_matches("pub ").split_once(": ");
            let member = member.filter(|_| !line.starts_with(['#', '/']));
            if member.is_some() && std::mem::take(&mut is_of_no_file) {
                continue;
            }
            members.extend(member.map(|it| it.0.to_owned()));
        }
        name.chars().all(char::is_alphanumeric).then(|| (name.to_owned(), members))
    });
    structs.collect()
}

#[test]
fn the_schema_of_the_catalog_has_every_member_and_no_other() {
    let schema: Value =
        serde_json::from_str(&source("docs/reference/catalog.schema.json")).unwrap();
    let structs = raw_structs();
    assert!(structs.len() > 14, "{structs:?}");
    for (name, members) in structs {
        let object = if name == "Catalog" { &schema } else { &schema["$defs"][&name] };
        let listed = object["properties"].as_object();
        let listed: BTreeSet<_> = listed.into_iter().flat_map(|it| it.keys().cloned()).collect();
        assert_eq!(listed, members, "{name}");
        assert_eq!(object["additionalProperties"], false, "{name}");
    }
}
