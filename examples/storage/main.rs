//! An append-only log that survives `kill -9`, and random reads past the page cache.
//!
//! ```text
//! cargo run --release --example storage
//! cargo run --release --example storage -- --rounds 20 --dir /mnt/disk
//! cargo run --release --example storage -- --json
//! ```
//!
//! The program starts itself as a writer, kills it with SIGKILL at a moment that nobody chose,
//! recovers the log, and holds what it finds against what the writer had acknowledged; again and again
//! on the same log. Every round also tears the last page of a copy. Then it reads pages at random.
//!
//! The writer gathers records while a commit is under way and commits them together: one write from a
//! registered buffer to a fixed file, past the page cache, with an `fdatasync` linked behind it, in one
//! submission. It acknowledges a record when both are done. SIGKILL takes nothing from the kernel, so
//! these rounds prove the order of things and the recovery; that a disk keeps what `fdatasync` promised
//! when its power fails, they do not. Ctrl-C ends it after the round that is under way.
//!
//! | module | what it does |
//! |---|---|
//! | `page` | what is written at once, and verified by itself |
//! | `log` | groups of pages, committed together; recovery |
//! | `writer` | the process that is killed |
//! | `crashes` | kills it, and judges what is found |
//! | `reads` | pages at random |

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

mod crashes;
mod log;
mod page;
mod reads;
mod writer;

use std::error::Error;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bypass_io::io_uring::Ring;
use bypass_io::io_uring::buf::BufPool;
use bypass_io::io_uring::fixed::BufferTable;
use bypass_io::worker::Stop;
use lexopt::prelude::*;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: storage [--rounds N] [--dir DIR] [--json]";

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result {
    let (mut rounds, mut json) = (5, false);
    // Beside the program, and not in the temporary folder, which may have no disk.
    let mut folder = std::env::current_exe()?.with_file_name("");
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long(writer::OPTION) => return writer::write_until_killed(Path::new(&args.value()?)),
            Long("rounds") => rounds = args.value()?.parse()?,
            Long("dir") => folder = args.value()?.into(),
            Long("json") => json = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    let stop = Stop::on_signals()?;
    let log = Scratch(folder.join(format!("storage-example-{}.log", std::process::id())));
    if !json {
        println!("{}", crashes::HEADER);
    }
    let (mut told, mut end) = (Vec::new(), log::End::default());
    for number in 1..=rounds {
        if stop.stopping() {
            break;
        }
        let round = crashes::crash(&log.0, number, end)?;
        if !json {
            println!("{round}");
        }
        end = round.keeps_its_promise(end)?;
        told.push(round);
    }
    if !json {
        println!("\n{} records in {} pages, all verified\n", end.record, end.page);
    }
    let reads = reads::read_at_random(&log.0, end.page, &stop)?;
    if json {
        let (records, pages) = (end.record, end.page);
        let report = serde_json::json!({
            "rounds": told, "records": records, "pages": pages, "reads": reads,
        });
        println!("{report}");
    } else if let Some(reads) = reads {
        println!("{reads}");
    }
    Ok(())
}

/// A file that goes with the program.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        let _gone = fs::remove_file(&self.0);
    }
}

/// Makes the pool's buffers known to the kernel. Without that everything works, only slower.
fn register(ring: &Ring, pool: &BufPool) -> Result {
    if let Err(refused) = BufferTable::new(ring, 1)?.register(pool) {
        eprintln!("note: the buffers are not registered: {refused}");
    }
    Ok(())
}

/// A number that nobody chose.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}
