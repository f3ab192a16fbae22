//! Numbers that fit a column.

/// Three digits and a prefix: `12.3 k`.
pub fn short(value: f64) -> String {
    let (value, prefix) = match value {
        v if v >= 999.5e6 => (v / 1e9, " G"),
        v if v >= 999.5e3 => (v / 1e6, " M"),
        v if v >= 999.5 => (v / 1e3, " k"),
        v => (v, ""),
    };
    if prefix.is_empty() && value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    digits(value) + prefix
}

/// Three digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A share: `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A time with its unit: `12.3 µs`.
pub fn time(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        n if n >= 999.5e6 => digits(n / 1e9) + " s",
        n if n >= 999.5e3 => digits(n / 1e6) + " ms",
        n if n >= 999.5 => digits(n / 1e3) + " µs",
        n => format!("{n:.0} ns"),
    }
}

/// Hours, minutes, seconds.
pub fn duration(seconds: f64) -> String {
    let all = seconds as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// What may not be there.
pub fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}
