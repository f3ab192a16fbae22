//! The screen.

use std::collections::{BTreeMap, VecDeque};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Paragraph, Row, Sparkline, Table};

use crate::history::{History, Rates};
use crate::numbers::{duration, or_dash, percent, short, time};
use crate::reading::{Reading, Worker};

const FRAME: Color = Color::DarkGray;
const ACCENT: Color = Color::Cyan;
const GOOD: Color = Color::Green;
const BAD: Color = Color::Red;
const WARM: Color = Color::Yellow;

/// Cells of a bar.
const BAR: usize = 12;

pub fn draw(frame: &mut Frame<'_>, history: &History, address: &str, trouble: Option<&str>) {
    let Some(reading) = &history.last else { return };
    let rings = rings(reading);
    let causes = causes(reading);
    let middle = 2 + causes.len().max(rings.len()).max(1) as u16;
    let [head, workers, curves, details, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4 + reading.workers.len() as u16),
        Constraint::Min(5),
        Constraint::Max(middle.max(5)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    title(frame, head, reading, address);
    table(frame, workers, history, reading);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(curves);
    curve(frame, left, "packets per second", &history.packets, ACCENT, |v| short(v as f64));
    curve(frame, right, "latency, 99th percentile", &history.p99, WARM, time);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(details);
    drops(frame, left, &causes, &history.total);
    bars(frame, right, rings);
    let foot_line = match trouble {
        Some(trouble) => Line::from(format!(" {trouble} ")).fg(Color::White).bg(BAD),
        None => Line::from(vec![" q".bold().fg(ACCENT), " quits".fg(FRAME)]),
    };
    frame.render_widget(foot_line, foot);
}

fn title(frame: &mut Frame<'_>, area: Rect, reading: &Reading, address: &str) {
    let left = Line::from(vec![
        format!(" {}", reading.application).bold().fg(ACCENT),
        format!("  pid {}  up {}", reading.pid, duration(reading.uptime)).fg(Color::Gray),
    ]);
    let right = Line::from(format!("{address} ").fg(FRAME)).right_aligned();
    frame.render_widget(left, area);
    frame.render_widget(right, area);
}

fn block(title: &str) -> Block<'_> {
    let title = Line::from(format!(" {title} ").fg(Color::Gray));
    Block::bordered().border_type(BorderType::Rounded).border_style(FRAME).title(title)
}

const COLUMNS: [(&str, u16); 14] = [
    ("worker", 8),
    ("core", 4),
    ("backend", 8),
    ("rx/s", 7),
    ("tx/s", 7),
    ("rx bit/s", 8),
    ("tx bit/s", 8),
    ("drops/s", 7),
    ("user", 7),
    ("system", 7),
    ("calls/pkt", 9),
    ("wakes/s", 7),
    ("p50", 8),
    ("p99", 8),
];

fn table(frame: &mut Frame<'_>, area: Rect, history: &History, reading: &Reading) {
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let figures = |rates: &Rates| {
        let dropped = rates.dropped();
        let color = if dropped > 0.0 { BAD } else { Color::Reset };
        [
            right(short(rates.rx_packets)),
            right(short(rates.tx_packets)),
            right(short(rates.rx_bits)),
            right(short(rates.tx_bits)),
            right(short(dropped)).style(Style::new().fg(color)),
            right(percent(rates.user)),
            right(percent(rates.system)),
            right(or_dash(rates.calls_per_packet(), |calls| format!("{calls:.3}"))),
            right(or_dash(rates.wakeups, short)),
            right(or_dash(rates.latency.percentile(50.0), time)),
            right(or_dash(rates.latency.percentile(99.0), time)),
        ]
    };
    let row = |worker: &Worker, rates: &Rates| {
        let (name, color) = match worker.state() {
            "running" => (worker.worker.clone(), ACCENT),
            other => (format!("{} {other}", worker.worker), WARM),
        };
        let core = or_dash(worker.core, |core| core.to_string());
        let own = [Cell::from(name).style(color), right(core), Cell::from(worker.backend.clone())];
        Row::new(own.into_iter().chain(figures(rates)))
    };
    let rows = reading.workers.iter().zip(&history.rates).map(|(worker, rates)| row(worker, rates));
    let total = [Cell::from("total"), Cell::from(""), Cell::from("")].into_iter();
    let total = Row::new(total.chain(figures(&history.total))).bold();
    let head = COLUMNS.iter().enumerate().map(|(at, (name, _))| match at {
        0 | 2 => Cell::from(*name),
        _ => right((*name).to_owned()),
    });
    let widths = COLUMNS.map(|(_, width)| Constraint::Length(width));
    let table = Table::new(rows.chain([total]), widths)
        .header(Row::new(head).fg(FRAME))
        .block(block("workers"));
    frame.render_widget(table, area);
}

fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    values: &VecDeque<u64>,
    color: Color,
    show: fn(u64) -> String,
) {
    let width = usize::from(area.width.saturating_sub(2));
    let shown: Vec<u64> = values.iter().rev().take(width).rev().copied().collect();
    let (now, most) =
        (shown.last().copied().unwrap_or(0), shown.iter().max().copied().unwrap_or(0));
    let right = Line::from(vec![
        Span::from(format!(" {} ", show(now))).bold().fg(color),
        Span::from(format!("most {} ", show(most))).fg(FRAME),
    ]);
    let block = block(title).title(right.right_aligned());
    let curve = Sparkline::default().data(&shown).max(most.max(1)).style(color).block(block);
    frame.render_widget(curve, area);
}

/// Packets lost since the start, by cause.
fn causes(reading: &Reading) -> BTreeMap<&str, u64> {
    let mut causes = BTreeMap::new();
    for (cause, count) in reading.workers.iter().flat_map(|worker| &worker.stats.drops) {
        *causes.entry(&**cause).or_insert(0) += count;
    }
    causes
}

fn drops(frame: &mut Frame<'_>, area: Rect, causes: &BTreeMap<&str, u64>, rates: &Rates) {
    let block = block("drops by cause");
    if causes.is_empty() {
        let nothing = Paragraph::new(Line::from(" nothing was lost".fg(GOOD))).block(block);
        frame.render_widget(nothing, area);
        return;
    }
    let rows = causes.iter().map(|(cause, count)| {
        let rate = rates.drops.get(*cause).copied().unwrap_or(0.0);
        let color = if rate > 0.0 { BAD } else { Color::Reset };
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        let name = Cell::from(format!(" {cause}"));
        Row::new([name, right(count.to_string()), right(format!("{}/s", short(rate)))]).fg(color)
    });
    let widths = [Constraint::Length(24), Constraint::Length(14), Constraint::Length(10)];
    frame.render_widget(Table::new(rows, widths).block(block), area);
}

/// How full something is.
struct Fill {
    name: String,
    used: u64,
    size: u64,
}

fn rings(reading: &Reading) -> Vec<Fill> {
    let mut fills = Vec::new();
    for worker in reading.workers.iter().filter(|worker| worker.running) {
        let mut add = |what: &str, used, size| {
            fills.push(Fill { name: format!("{} {what}", worker.worker), used, size });
        };
        for (name, ring) in &worker.rings {
            add(name, ring.used, ring.size);
        }
        if let Some(frames) = worker.stats.frames {
            add("frames in use", frames.total.saturating_sub(frames.free), frames.total);
        }
    }
    fills
}

fn bars(frame: &mut Frame<'_>, area: Rect, fills: Vec<Fill>) {
    let rows = fills.into_iter().map(|Fill { name, used, size }| {
        let share = used as f64 / size.max(1) as f64;
        let color = match share {
            share if share > 0.9 => BAD,
            share if share > 0.5 => WARM,
            _ => GOOD,
        };
        let full = ((share * BAR as f64).ceil() as usize).min(BAR);
        let bar = Line::from(vec![
            Span::from("█".repeat(full)).fg(color),
            Span::from("░".repeat(BAR - full)).fg(FRAME),
        ]);
        let count = format!("{} of {}", short(used as f64), short(size as f64));
        let share = Line::from(percent(share)).right_aligned();
        Row::new([
            Cell::from(format!(" {name}")),
            Cell::from(bar),
            Cell::from(share),
            Cell::from(Line::from(count).right_aligned()),
        ])
    });
    let widths = [
        Constraint::Length(22),
        Constraint::Length(BAR as u16),
        Constraint::Length(7),
        Constraint::Length(16),
    ];
    frame.render_widget(Table::new(rows, widths).block(block("rings and packet memory")), area);
}
