//! The loops on DPDK in a program that DPDK is linked into; `cargo xtask bench dpdk` builds and runs it.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to its user")]

#[path = "../dpdk/loops.rs"]
mod loops;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, job] = &arguments[..] else { bail!("a contestant and its job are wanted") };
    let outcome = loops::measure(name, serde_json::from_str(job)?)?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
