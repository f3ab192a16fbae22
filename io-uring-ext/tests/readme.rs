//! Every row of the capability table in the README names a test that there is.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::path::Path;

/// The text of a test file or of a module, by the name that the table gives it.
fn source(root: &Path, name: &str) -> Option<String> {
    let name = name.trim().trim_matches('`');
    let module = name.replace("::", "/");
    let files =
        [format!("tests/{name}.rs"), format!("src/{module}.rs"), format!("src/{module}/mod.rs")];
    files.iter().find_map(|file| fs::read_to_string(root.join(file)).ok())
}

/// What is wrong with a cell such as `chain :: one_test, another; poison :: all; compile-fail in Ring`.
fn wrong(root: &Path, cell: &str) -> Option<String> {
    for part in cell.split("; ").map(str::trim) {
        if part.starts_with("compile-fail in") {
            continue;
        }
        // Either a file and its tests, or files all of whose tests are meant.
        let (files, tests) = part.split_once(" :: ").unwrap_or((part, "all"));
        for file in files.split(" (").next().unwrap_or(files).split(", ") {
            let Some(source) = source(root, file) else { return Some(format!("no `{file}`")) };
            for test in tests.split(", ").map(str::trim).filter(|test| *test != "all") {
                if !source.contains(&format!("fn {test}(")) {
                    return Some(format!("no test `{test}` in `{file}`"));
                }
            }
        }
    }
    None
}

#[test]
fn every_capability_names_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .filter(|cells: &Vec<_>| cells.len() == 4 && cells[3] != "test")
        .collect();
    assert!(rows.len() > 60, "the table has been found: {} rows", rows.len());
    let wrong: Vec<_> =
        rows.iter().filter_map(|row| Some((row[0], wrong(root, row[3])?))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
