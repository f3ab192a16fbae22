//! The stored bindings, from which documentation is made where there is no DPDK, are those of the oldest
//! version that this crate supports.
//!
//! `BYPASS_STORE=1 cargo test -p bypass-dpdk-sys --test stored` stores them anew.

/// What was made from the headers of this machine.
const MADE: &str = include_str!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// Without the assertions of sizes and offsets, which are most of the text and concern the compiler.
fn without_layouts(bindings: &str) -> String {
    let mut text = String::new();
    let mut lines = bindings.lines().peekable();
    while let Some(line) = lines.next() {
        let assertion = lines.peek().is_some_and(|next| next.starts_with("const _: () = {"));
        if line.starts_with("#[allow(clippy") && assertion {
            lines.by_ref().take_while(|line| *line != "};").for_each(drop);
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn they_are_what_the_headers_say() {
    if cfg!(not(target_arch = "x86_64")) || cfg!(dpdk_23_03) {
        println!("made from DPDK 22.11 on x86_64, which this is not");
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/stored/bindings.rs");
    let made = without_layouts(MADE);
    if std::env::var_os("BYPASS_STORE").is_some() {
        std::fs::write(file, &made).unwrap();
    }
    let stored = std::fs::read_to_string(file).unwrap();
    let differs = stored.lines().zip(made.lines()).find(|(stored, made)| stored != made);
    assert!(
        differs.is_none() && stored.len() == made.len(),
        "store them anew with BYPASS_STORE=1; the first difference is {differs:?}"
    );
}
