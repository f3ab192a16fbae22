//! [`Pages`]: what an exporter serves, made when it is asked for.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::http::Page;
use super::metrics;
use crate::telemetry::usage::{Usage, seconds};
use crate::telemetry::{Board, Reading};

/// How long a page is served again as it was: the workers are asked no more often, whoever asks.
const FRESH: Duration = Duration::from_millis(100);

const INDEX: &str = "Telemetry of a bypass-io application.\n\n\
                     /metrics  for Prometheus\n/json     everything, for programs\n";

pub(super) struct Pages {
    board: Board,
    application: String,
    started: Instant,
    /// What was made last, of each kind.
    made: Vec<(Page, Instant, String)>,
}

/// What `/json` serves.
#[derive(Debug, Serialize)]
struct Everything<'p> {
    /// The program's name.
    application: &'p str,
    pid: u32,
    /// How long it has been served, in seconds.
    #[serde(serialize_with = "seconds")]
    uptime: Duration,
    /// What the whole process has cost.
    usage: Usage,
    workers: Vec<Reading>,
}

impl Pages {
    pub(super) fn new(board: Board) -> Self {
        let program = std::env::current_exe().ok();
        let name = program.as_ref().and_then(|path| path.file_stem());
        let application = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { board, application, started: Instant::now(), made: Vec::new() }
    }

    /// A page and what kind of text it is.
    pub(super) fn get(&mut self, page: Page) -> (&'static str, &str) {
        if page == Page::Index {
            return ("text/plain; charset=utf-8", INDEX);
        }
        let at = self.made.iter().position(|(made, ..)| *made == page);
        let at = match at {
            Some(at) if self.made[at].1.elapsed() < FRESH => at,
            Some(at) => {
                self.made.swap_remove(at);
                self.make(page)
            }
            None => self.make(page),
        };
        let kind = match page {
            Page::Index | Page::PrometheusText => metrics::TEXT,
            Page::OpenMetrics => metrics::OPEN_METRICS,
            Page::Json => "application/json",
        };
        (kind, &self.made[at].2)
    }

    /// Makes a page; answers where it is kept.
    fn make(&mut self, page: Page) -> usize {
        let workers = self.board.read();
        let text = match page {
            Page::Index | Page::PrometheusText => metrics::prometheus_text(workers),
            Page::OpenMetrics => metrics::open_metrics(workers),
            Page::Json => self.json(workers),
        };
        self.made.push((page, Instant::now(), text));
        self.made.len() - 1
    }

    fn json(&self, workers: Vec<Reading>) -> String {
        let everything = Everything {
            application: &self.application,
            pid: std::process::id(),
            uptime: self.started.elapsed(),
            usage: Usage::of_process().unwrap_or_default(),
            workers,
        };
        // Maps with string keys, numbers and nothing else: there is nothing to fail on.
        serde_json::to_string(&everything).unwrap_or_default()
    }
}
