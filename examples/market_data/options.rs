//! What the command line asks for.

use std::path::PathBuf;

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
    pub settings: Settings,
}

const USAGE: &str = "\
known: FILE        an ITCH file, .gz or not, in the place of a day that is made up
       --rate N    messages a second
       --seconds N
       --seed N    of the day, and of what is lost
       --loss N    packets of a thousand that are withheld
       --retain N  messages that can be asked for again, the latest ones
       --save FILE    writes the day as an ITCH file
       --books FILE   writes the books at the end, as JSON
       --json";

impl Job {
    pub fn from_args() -> Result<Self, String> {
        let settings = Settings { loss: 0, retain: u64::MAX, seed: 1 };
        let mut job = Self {
            rate: 100_000,
            seconds: 3,
            json: false,
            file: None,
            save: None,
            books: None,
            settings,
        };
        let mut args = std::env::args_os().skip(1);
        while let Some(arg) = args.next() {
            let name = arg.to_string_lossy().into_owned();
            let mut number = |least: u64| {
                let text = args.next().unwrap_or_default();
                let number: Option<u64> = text.to_str().and_then(|text| text.parse().ok());
                number.filter(|number| *number >= least).ok_or(format!("{name} takes a number"))
            };
            match name.as_str() {
                "--rate" => job.rate = number(1)?.min(1_000_000_000),
                "--seconds" => job.seconds = number(1)?,
                "--seed" => job.settings.seed = number(0)?,
                "--loss" => job.settings.loss = number(0)?.min(1000) as u32,
                "--retain" => job.settings.retain = number(0)?,
                "--json" => job.json = true,
                "--save" => job.save = Some(args.next().ok_or("--save takes a file")?.into()),
                "--books" => job.books = Some(args.next().ok_or("--books takes a file")?.into()),
                _ if name.starts_with("--") || job.file.is_some() => {
                    return Err(format!("{name}?\n{USAGE}"));
                }
                _ => job.file = Some(arg.into()),
            }
        }
        Ok(job)
    }

    /// How many messages are sent, if the day has as many.
    pub fn messages(&self) -> usize {
        usize::try_from(self.rate.saturating_mul(self.seconds)).unwrap_or(usize::MAX)
    }
}
