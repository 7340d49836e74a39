//! `make fast` runs exactly the tests that need nothing but Rust, beside git and a shell.
//!
//! A test needs a program if it starts one, or uses an item that does, at any depth. This is read
//! from the text, so there is no list of programs or of tests. Names are resolved as Rust does, but
//! a method counts as used wherever its type is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{SOURCES, files};
use crate::support::repository;

/// A line in the header of a file whose tests need other programs. The Makefile searches for it.
const MARK: &str = "//! Needs programs besides Rust, so `make fast` skips it.";

/// An item at the top level of a file.
struct Item {
    /// Path within the crate, as `support::redis::RedisServer`. An `impl` has that of its type.
    path: String,
    text: String,
    has_tests: bool,
}

/// One file of the integration tests.
struct File {
    module: String,
    is_marked: bool,
    /// Full paths of imports, by their names here.
    imports: BTreeMap<String, String>,
    /// Modules from which everything is imported.
    globs: Vec<String>,
    items: Vec<Item>,
}

/// True if the line begins an item, or its attributes and comments.
fn begins_item(line: &str) -> bool {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let first = rest.split([' ', '<', '!']).next().unwrap_or_default();
    let keywords =
        ["const", "enum", "fn", "impl", "mod", "proptest", "static", "struct", "type", "use"];
    keywords.contains(&first)
}

/// The name that an item has in its module.
fn name_of(head: &str) -> &str {
    let head = head.strip_prefix("pub ").unwrap_or(head);
    let (keyword, rest) = head.split_once(' ').unwrap_or((head, ""));
    let rest = if keyword == "impl" { rest.rsplit(" for ").next().unwrap_or(rest) } else { rest };
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or(rest)
}

/// The texts of the items of a file, without comments.
fn items_of(text: &str) -> Vec<(String, String)> {
    let mut items: Vec<(String, String)> = Vec::new();
    let mut attributes = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if line.starts_with("#[") {
            attributes += line;
        } else if begins_item(line) {
            items.push((name_of(line).to_owned(), std::mem::take(&mut attributes) + line));
        } else if let Some((_, item)) = items.last_mut() {
            *item += "\n";
            *item += line;
        }
    }
    items
}

/// Adds the full path of each leaf of a use tree.
fn leaves(tree: &str, before: &str, found: &mut Vec<String>) {
    let (mut depth, mut start) = (0, 0);
    for (place, letter) in tree.char_indices().chain([(tree.len(), ',')]) {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if depth > 0 || letter != ',' {
            continue;
        }
        let branch = tree[start..place].trim();
        start = place + 1;
        match branch.split_once('{') {
            Some((path, rest)) => {
                let rest = rest.strip_suffix('}').unwrap_or(rest);
                leaves(rest, &format!("{before}{path}"), found);
            }
            None if branch.is_empty() => {}
            None => found.push(format!("{before}{branch}").trim_end_matches("::self").to_owned()),
        }
    }
}

/// A path without `crate` and `super`, as seen from the crate.
fn absolute(path: &str, module: &str) -> String {
    let (mut at, mut rest) = (module, path);
    while let Some(path) = rest.strip_prefix("super::") {
        at = at.rsplit_once("::").map_or("", |(parent, _)| parent);
        rest = path;
    }
    match path.strip_prefix("crate::") {
        Some(path) => path.to_owned(),
        None if rest == path || at.is_empty() => rest.to_owned(),
        None => format!("{at}::{rest}"),
    }
}

impl File {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let module = path.strip_prefix(repository("tests/it")).unwrap().with_extension("");
        let module = module.to_str().unwrap().replace('/', "::");
        let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
        let is_marked = text.lines().any(|line| line == MARK);
        let (imports, globs) = (BTreeMap::new(), Vec::new());
        let mut file = Self { module, is_marked, imports, globs, items: Vec::new() };
        for (name, text) in items_of(&text) {
            match text.strip_prefix("pub ").unwrap_or(&text).strip_prefix("use ") {
                Some(tree) => file.import(tree.trim_end().trim_end_matches(';')),
                None => file.items.push(Item {
                    path: format!("{}::{name}", file.module),
                    has_tests: text.contains("#[test]"),
                    text,
                }),
            }
        }
        file
    }

    fn import(&mut self, tree: &str) {
        let mut found = Vec::new();
        leaves(tree, "", &mut found);
        for leaf in found {
            let (path, alias) = leaf.split_once(" as ").unwrap_or((&leaf, ""));
            let path = absolute(path, &self.module);
            if let Some(module) = path.strip_suffix("::*") {
                self.globs.push(module.to_owned());
                continue;
            }
            let name = if alias.is_empty() { path.rsplit("::").next().unwrap() } else { alias };
            self.imports.insert(name.to_owned(), path);
        }
    }
}

/// True if the text starts a program other than Tollgate, git and the shell.
fn starts_a_program(text: &str) -> bool {
    let own = ["env!(\"CARGO_BIN_EXE_tollgate\")", "\"git\"", "\"sh\""];
    // Divided, so that this file does not contain it.
    let mut commands = text.split(concat!("Command::", "new(")).skip(1);
    commands.any(|rest| !own.iter().any(|own| rest.starts_with(own)))
}

/// All files, by their modules.
struct Tests(BTreeMap<String, File>);

impl Tests {
    fn read() -> Self {
        let files = files("tests/it", "rs");
        let files = files.iter().map(|path| File::read(path));
        Self(files.map(|file| (file.module.clone(), file)).collect())
    }

    /// The items that have tests, each with its file.
    fn cases<'a>(&'a self) -> impl Iterator<Item = (&'a File, &'a Item)> {
        let of_file = |file: &'a File| file.items.iter().map(move |item| (file, item));
        self.0.values().flat_map(of_file).filter(|(_, item)| item.has_tests)
    }

    /// The path of a name that a module uses, as seen from the crate; empty if it is not known.
    fn resolve(&self, name: &str, module: &str) -> String {
        let name = name.strip_prefix("self::").unwrap_or(name);
        let first = name.split("::").next().unwrap();
        if let "crate" | "super" = first {
            return absolute(name, module);
        }
        let Some(file) = self.0.get(module) else { return String::new() };
        if let Some(import) = file.imports.get(first) {
            return format!("{import}{}", &name[first.len()..]);
        }
        let own = format!("{module}::{first}");
        if self.0.contains_key(&own) || file.items.iter().any(|item| item.path == own) {
            return format!("{module}::{name}");
        }
        let mut from_globs = file.globs.iter().map(|glob| self.resolve(name, glob));
        from_globs.find(|path| !path.is_empty()).unwrap_or_default()
    }

    /// The paths that an item names, and for members of a type that of the type as well.
    fn uses(&self, file: &File, item: &Item) -> BTreeSet<String> {
        let is_path = |letter: char| letter.is_alphanumeric() || ['_', ':'].contains(&letter);
        let names: BTreeSet<&str> = item.text.split(|letter| !is_path(letter)).collect();
        let paths = names.iter().map(|name| self.resolve(name.trim_matches(':'), &file.module));
        let with_type = |path: String| {
            let of = path.rsplit_once("::").map(|(of, _)| of.to_owned());
            [Some(path), of].into_iter().flatten()
        };
        paths.flat_map(with_type).collect()
    }

    /// The paths of all items that need a program.
    fn needing_a_program(&self) -> BTreeSet<&str> {
        let items =
            self.0.values().flat_map(|file| file.items.iter().map(move |item| (file, item)));
        let (starting, mut others): (Vec<_>, Vec<_>) = items
            .map(|(file, item)| (item, self.uses(file, item)))
            .partition(|(item, _)| starts_a_program(&item.text));
        let mut needing: BTreeSet<&str> = starting.iter().map(|(item, _)| &*item.path).collect();
        loop {
            let needs = |(_, uses): &mut (&Item, BTreeSet<String>)| {
                uses.iter().any(|path| needing.contains(path.as_str()))
            };
            let found: Vec<&str> =
                others.extract_if(.., needs).map(|(item, _)| &*item.path).collect();
            if found.is_empty() {
                return needing;
            }
            needing.extend(found);
        }
    }
}

#[test]
fn a_file_is_marked_exactly_if_each_of_its_tests_needs_a_program() {
    let tests = Tests::read();
    let needing = tests.needing_a_program();
    assert!(needing.contains("support::redis::RedisServer"), "{needing:?}");
    let remedy =
        |(file, item): (&File, &Item)| match (needing.contains(&*item.path), file.is_marked) {
            (true, false) => {
                Some(format!("{} needs a program: it is for a marked file", item.path))
            }
            (false, true) => Some(format!("{} needs only Rust: it is for another file", item.path)),
            _ => None,
        };
    let remedies: Vec<String> = tests.cases().filter_map(remedy).collect();
    assert!(remedies.is_empty(), "the mark is `{MARK}`\n{}", remedies.join("\n"));
}

#[test]
fn no_unit_test_needs_a_program() {
    for file in SOURCES.iter().flat_map(|folder| files(folder, "rs")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!starts_a_program(&text), "{} starts a program", file.display());
    }
}

/// The words of the Makefile by which libtest skips tests.
fn skipped() -> BTreeSet<String> {
    let makefile = fs::read_to_string(repository("Makefile")).unwrap();
    let mut lines = makefile.lines();
    let command = lines.find_map(|line| line.strip_prefix("NOT_FAST = $(shell ")).unwrap();
    let command = command.strip_suffix(')').unwrap();
    let output = Command::new("sh").args(["-c", command]).current_dir(repository("")).output();
    let words = String::from_utf8(output.unwrap().stdout).unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn make_fast_skips_the_tests_of_marked_files_and_no_other() {
    let (tests, skipped) = (Tests::read(), skipped());
    for (file, item) in tests.cases() {
        // libtest skips a test if the word is anywhere in its path.
        let by = skipped.iter().find(|word| item.path.contains(word.as_str()));
        assert_eq!(by.is_some(), file.is_marked, "{} is skipped by {by:?}", item.path);
    }
}
