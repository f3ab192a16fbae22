//! [`Uri`]: the text that names a backend, what it opens, and its settings.

use std::fmt::Display;
use std::str::FromStr;

use crate::{Error, Result};

/// `scheme:target?key=value&key=value`, taken apart; the target may start with `//`.
#[derive(Debug)]
pub(crate) struct Uri<'a> {
    text: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) target: &'a str,
    settings: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Uri<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let wrong = |why| Error::config("uri", format!("{text:?}"), why);
        let (scheme, rest) = text.split_once(':').ok_or_else(|| {
            wrong("a URI is BACKEND:TARGET, such as packet:eth0 or udp+socket://127.0.0.1:9000")
        })?;
        let (target, query) = rest.split_once('?').unwrap_or((rest, ""));
        let target = target.strip_prefix("//").unwrap_or(target);
        let setting = |part: &'a str| {
            part.split_once('=').ok_or_else(|| wrong("behind the `?` stands key=value&key=value"))
        };
        let settings = query.split('&').filter(|part| !part.is_empty()).map(setting);
        let settings = settings.collect::<Result<Vec<_>>>()?;
        let again = |(at, (key, _)): &(usize, &(&str, &str))| {
            settings[..*at].iter().any(|(before, _)| before == key)
        };
        if let Some((_, (key, value))) = settings.iter().enumerate().find(again) {
            let what = format!("{key} in {text:?}");
            return Err(Error::config(what, value, "it is given twice: leave one of them"));
        }
        Ok(Self { text, scheme, target, settings, known: Vec::new() })
    }

    /// Takes the setting `key`, if it is there.
    pub(crate) fn take<T>(&mut self, key: &'static str) -> Result<Option<T>>
    where
        T: FromStr<Err: Display>,
    {
        self.known.push(key);
        let Some(at) = self.settings.iter().position(|(name, _)| *name == key) else {
            return Ok(None);
        };
        let (_, value) = self.settings.swap_remove(at);
        value
            .parse()
            .map(Some)
            .map_err(|error: T::Err| Error::config(key, value, error.to_string()))
    }

    /// Whether the setting `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.settings.iter().any(|(name, _)| *name == key)
    }

    /// Stores the setting `key` in `place`, if it is there.
    pub(crate) fn set<T>(&mut self, key: &'static str, place: &mut T) -> Result<()>
    where
        T: FromStr<Err: Display>,
    {
        if let Some(value) = self.take(key)? {
            *place = value;
        }
        Ok(())
    }

    /// Takes the setting `key`, whose values have names, if it is there.
    #[cfg(feature = "xdp")]
    pub(crate) fn one_of<T: Copy>(
        &mut self,
        key: &'static str,
        values: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(name) = self.take::<String>(key)? else { return Ok(None) };
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let names = || values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
        value.map(Some).ok_or_else(|| Error::config(key, &name, format!("it is {}", names())))
    }

    /// Whether there are no settings left.
    pub(crate) fn is_plain(&self) -> bool {
        self.settings.is_empty()
    }

    /// Another target, for the settings that are left.
    pub(crate) fn of(self, target: &'a str) -> Self {
        Self { target, ..self }
    }

    /// The target, read as a `T`.
    pub(crate) fn target<T>(&self, what: &'static str) -> Result<T>
    where
        T: FromStr<Err: Display>,
    {
        let wrong = |error: T::Err| format!("{error}, in {:?}", self.text);
        self.target.parse().map_err(|error| Error::config(what, self.target, wrong(error)))
    }

    /// Refuses settings that nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.settings.first() {
            None => Ok(()),
            Some((key, value)) => {
                let known = self.known.join(", ");
                let why = format!("{} has no such setting; it knows {known}", self.scheme);
                Err(Error::config(format!("{key} in {:?}", self.text), value, why))
            }
        }
    }

    /// The error for a scheme that is not among `known`, or whose feature is off.
    pub(crate) fn unknown(&self, known: &str) -> Error {
        let feature = match self.scheme.rsplit('+').next() {
            Some("uring") if cfg!(not(feature = "io-uring")) => Some("io-uring"),
            Some("xdp") if cfg!(not(feature = "xdp")) => Some("xdp"),
            Some("dpdk") if cfg!(not(feature = "dpdk")) => Some("dpdk"),
            _ => None,
        };
        let why = match feature {
            Some(feature) => format!("build bypass-io with the feature `{feature}`"),
            None => format!("there is no such backend; there are {known}"),
        };
        Error::config("uri", format!("{:?}", self.text), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_comes_apart() {
        let mut uri = Uri::parse("udp+socket://127.0.0.1:9000?batch=32&gro=true").unwrap();
        assert_eq!((uri.scheme, uri.target), ("udp+socket", "127.0.0.1:9000"));
        let (mut batch, mut gro, mut other) = (0, false, 7);
        uri.set("batch", &mut batch).unwrap();
        uri.set("gro", &mut gro).unwrap();
        uri.set("other", &mut other).unwrap();
        assert_eq!((batch, gro, other), (32, true, 7));
        uri.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = |error: Error| error.to_string();
        assert!(text(Uri::parse("eth0").unwrap_err()).contains("BACKEND:TARGET"));
        assert!(text(Uri::parse("packet:eth0?fast").unwrap_err()).contains("key=value"));
        let error = text(Uri::parse("packet:eth0?frames=8&frames=9").unwrap_err());
        assert!(error.starts_with("frames in ") && error.contains("twice"), "{error}");
        let mut uri = Uri::parse("packet:eth0?frames=many").unwrap();
        let error = text(uri.take::<u32>("frames").unwrap_err());
        assert!(error.starts_with("frames = many: "), "{error}");
        let mut uri = Uri::parse("packet:eth0?colour=red").unwrap();
        uri.take::<u32>("frames").unwrap();
        let error = text(uri.finish().unwrap_err());
        assert!(error.contains("colour") && error.contains("it knows frames"), "{error}");
    }
}
