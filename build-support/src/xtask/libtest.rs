//! Reads what `cargo test` prints.
//!
//! The text is read, not libtest's JSON, which is unstable. Cargo announces a suite on standard
//! error and libtest its results on standard output, so the caller merges the two into one stream
//! of lines.

use super::tally::Tally;

/// What one line of `cargo test` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A test binary, or the doctests of a crate, starts.
    Suite(&'a str),
    /// One test ended well.
    Passed(&'a str),
    /// One test failed.
    Failed(&'a str),
    /// One test was left out by an attribute, with its reason.
    Ignored(&'a str, &'a str),
    /// The suite ended and counted these.
    Ended(Tally),
    /// Anything else.
    Other,
}

/// Reads one line.
pub(crate) fn read(line: &str) -> Line<'_> {
    if let Some(suite) =
        line.strip_prefix("     Running ").or_else(|| line.strip_prefix("   Doc-tests "))
    {
        return Line::Suite(suite);
    }
    if let Some(result) = line.strip_prefix("test result: ") {
        return counts(result).map_or(Line::Other, Line::Ended);
    }
    let Some((name, outcome)) =
        line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
    else {
        return Line::Other;
    };
    if outcome == "ok" {
        Line::Passed(name)
    } else if outcome == "FAILED" {
        Line::Failed(name)
    } else if let Some(reason) = outcome.strip_prefix("ignored") {
        Line::Ignored(name, reason.trim_start_matches(", "))
    } else {
        Line::Other
    }
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
fn counts(result: &str) -> Option<Tally> {
    let mut tally = Tally::default();
    for part in result.split_once(". ")?.1.split("; ") {
        let Some((number, what)) = part.split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else {
            continue;
        };
        match what {
            "passed" => tally.passed = number,
            "failed" => tally.failed = number,
            "ignored" => tally.skipped = number,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_told_apart() {
        assert_eq!(
            read("     Running unittests src/lib.rs (target/debug/deps/core-1f)"),
            Line::Suite("unittests src/lib.rs (target/debug/deps/core-1f)")
        );
        assert_eq!(read("   Doc-tests bypass_core"), Line::Suite("bypass_core"));
        assert_eq!(
            read("test burst::takes_a_prefix ... ok"),
            Line::Passed("burst::takes_a_prefix")
        );
        assert_eq!(read("test a ... FAILED"), Line::Failed("a"));
        assert_eq!(read("test a ... ignored, no NIC"), Line::Ignored("a", "no NIC"));
        assert_eq!(read("test a ... ignored"), Line::Ignored("a", ""));
        assert_eq!(
            read("test src/lib.rs - Frame (line 4) - compile fail ... ok"),
            Line::Passed("src/lib.rs - Frame (line 4) - compile fail")
        );
        assert_eq!(read("test has no outcome"), Line::Other);
        assert_eq!(read("   Compiling bypass-core v0.1.0"), Line::Other);
    }

    #[test]
    fn counts_are_taken_from_the_result_line() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; \
                    7 filtered out; finished in 0.5s";
        assert_eq!(read(line), Line::Ended(Tally { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(read("test result: unheard of"), Line::Other);
    }
}
