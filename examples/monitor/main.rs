//! A view of a running application: rates, drops by cause, latency, CPU time, rings.
//!
//! ```text
//! cargo run --release --example kv -- --telemetry 127.0.0.1:9100      # in one terminal; or echo, dns, market_data
//! cargo run --release --example monitor                               # in another; 127.0.0.1:9100
//! cargo run --release --example monitor -- unix:/run/kv.sock          # elsewhere
//! cargo run --release --example monitor -- --once                     # as text, for scripts
//! cargo run --release --example monitor -- --json                     # everything, for programs
//! ```
//!
//! It asks twice a second, or every `--interval MS`; `q` and Ctrl-C end it. `--once` asks twice, that long
//! apart, and prints what happened meanwhile and since the start. Any application with a
//! `bypass_io::telemetry::Exporter` can be looked at.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

mod client;
mod history;
mod numbers;
mod reading;
mod text;
mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};

use history::History;
use reading::Reading;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
usage: monitor [ADDRESS] [--interval MS] [--once | --json]

  ADDRESS is where an application shows its telemetry: 127.0.0.1:9100, or unix:PATH";

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result {
    let mut address = "127.0.0.1:9100".to_owned();
    let (mut interval, mut once, mut json) = (Duration::from_millis(500), false, false);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("interval") => interval = Duration::from_millis(args.value()?.parse()?),
            Long("once") => once = true,
            Long("json") => json = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            Value(value) => address = value.string()?,
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    // Less than the exporter keeps its answers for is the same answer again.
    let interval = interval.max(Duration::from_millis(200));
    if json {
        println!("{}", client::fetch(&address)?);
        return Ok(());
    }
    if once {
        let mut history = History::new();
        history.add(Reading::fetch(&address)?);
        std::thread::sleep(interval);
        history.add(Reading::fetch(&address)?);
        print!("{}", text::page(&history));
        return Ok(());
    }
    if !std::io::stdout().is_terminal() {
        return Err("this is no terminal; --once prints text, --json everything".into());
    }
    // Whether anybody is there is told before the screen is taken.
    let mut history = History::new();
    history.add(Reading::fetch(&address)?);
    let mut terminal = ratatui::init();
    let outcome = watch(&mut terminal, &address, interval, history);
    ratatui::restore();
    outcome
}

/// Asks and draws until the user has seen enough.
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    address: &str,
    interval: Duration,
    mut history: History,
) -> Result {
    let mut next = Instant::now() + interval;
    let mut trouble = None;
    loop {
        terminal.draw(|frame| view::draw(frame, &history, address, trouble.as_deref()))?;
        if event::poll(next.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if is_end(key) => return Ok(()),
                _ => continue,
            }
        }
        // A program that is gone may come back.
        trouble = match Reading::fetch(address) {
            Ok(reading) => {
                history.add(reading);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        next = Instant::now() + interval;
    }
}

fn is_end(key: KeyEvent) -> bool {
    let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
    interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}
