//! Tests of what a process can do only once.

use std::any::type_name;
use std::process::{Command, ExitStatus};

/// Set to the test's name in the process that is its own.
const ALONE: &str = "BYPASS_TEST_ALONE";

/// Runs a test in a process of its own: this test binary once more, with this test only. The test fails
/// when that process does, with what it printed.
///
/// Call it with the test's whole body, from the function that is the test.
///
/// ```no_run
/// use bypass_core::testing::process::alone;
///
/// #[test]
/// # fn hidden() {}
/// fn changes_its_folder() {
///     alone(|| {
///         std::env::set_current_dir("/").unwrap();
///     });
/// }
/// ```
///
/// # Panics
///
/// When the test fails.
pub fn alone<F: FnOnce()>(test: F) {
    alone_under(&[], test);
}

/// As [`alone`], through a program that runs another: `["unshare", "--mount"]`.
///
/// # Panics
///
/// When the test fails.
#[expect(clippy::print_stderr, reason = "a skipped test says so to who runs it")]
pub fn alone_under<F: FnOnce()>(runner: &[&str], test: F) {
    let name = name_of::<F>();
    if std::env::var_os(ALONE).is_some_and(|running| running == name) {
        test();
        return;
    }
    let (output, printed) = again(runner, name);
    assert!(output.success(), "{name} failed in its own process: {output}\n{printed}");
    if let Some(skipped) = printed.lines().find(|line| line.starts_with("SKIPPED ")) {
        eprintln!("{skipped}");
    }
}

/// Whether this is the process of a test that runs alone, and not the one that waits for it.
#[must_use]
pub fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs the test `name` once more, and returns how that ended and what it printed.
fn again(runner: &[&str], name: &str) -> (ExitStatus, String) {
    let program = std::env::current_exe().expect("the path of this test binary");
    let mut command = match runner {
        [] => Command::new(program),
        [runner, arguments @ ..] => {
            let mut command = Command::new(runner);
            command.args(arguments).arg(program);
            command
        }
    };
    command.args(["--exact", name, "--nocapture", "--include-ignored"]).env(ALONE, name);
    let output = command.output().expect("this test binary, once more");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(
        printed.contains("running 1 test"),
        "{name} did not run: pass the body of a test\n{printed}"
    );
    (output.status, printed)
}

/// The test's path within its crate, from its closure's (`crate::module::test::{{closure}}`).
fn name_of<F>() -> &'static str {
    let path = type_name::<F>();
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.split_once("::").map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_alone_has_a_process_of_its_own() {
        // Only there the body runs, and only there the variable is set.
        let name = "testing::process::tests::a_test_alone_has_a_process_of_its_own";
        alone(|| assert_eq!(std::env::var(ALONE).unwrap(), name));
    }

    #[test]
    #[should_panic(expected = "failed in its own process")]
    fn what_fails_alone_fails() {
        alone(|| std::process::exit(3));
    }
}
