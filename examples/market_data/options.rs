//! What the command line asks for.

use std::num::NonZeroU64;
use std::path::PathBuf;

use lexopt::prelude::*;

use super::exchange::Settings;

pub struct Job {
    pub rate: u64,
    pub seconds: u64,
    pub json: bool,
    /// An ITCH file, in the place of a day that is made up.
    pub file: Option<PathBuf>,
    /// Where to write the day to.
    pub save: Option<PathBuf>,
    /// Where to write the last receiver's books to, as JSON.
    pub books: Option<PathBuf>,
    /// Where to show what happens while it does.
    pub telemetry: Option<String>,
    pub settings: Settings,
}

pub const USAGE: &str = "\
usage: market_data [FILE] [options]

       FILE        an ITCH file, .gz or not, in the place of a day that is made up
       --rate N    messages a second
       --seconds N
       --seed N    of the day, and of what is lost
       --loss N    packets of a thousand that are withheld
       --retain N  messages that can be asked for again, the latest ones
       --save FILE    writes the day as an ITCH file
       --books FILE   writes the books at the end, as JSON
       --telemetry ADDRESS    shows what happens to the example `monitor` and to Prometheus, such as 127.0.0.1:9100
       --json";

impl Job {
    /// What the command line says; `None` when it asks for help.
    pub fn from_args() -> Result<Option<Self>, lexopt::Error> {
        let settings = Settings { loss: 0, retain: u64::MAX, seed: 1 };
        let mut job = Self {
            rate: 100_000,
            seconds: 3,
            json: false,
            file: None,
            save: None,
            books: None,
            telemetry: None,
            settings,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("rate") => {
                    job.rate = args.value()?.parse::<NonZeroU64>()?.get().min(1_000_000_000)
                }
                Long("seconds") => job.seconds = args.value()?.parse::<NonZeroU64>()?.get(),
                Long("seed") => job.settings.seed = args.value()?.parse()?,
                Long("loss") => job.settings.loss = args.value()?.parse::<u32>()?.min(1000),
                Long("retain") => job.settings.retain = args.value()?.parse()?,
                Long("json") => job.json = true,
                Long("save") => job.save = Some(args.value()?.into()),
                Long("books") => job.books = Some(args.value()?.into()),
                Long("telemetry") => job.telemetry = Some(args.value()?.string()?),
                Long("help") | Short('h') => return Ok(None),
                Value(file) if job.file.is_none() => job.file = Some(file.into()),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(job))
    }

    /// How many messages are sent, if the day has as many.
    pub fn messages(&self) -> usize {
        usize::try_from(self.rate.saturating_mul(self.seconds)).unwrap_or(usize::MAX)
    }
}
