//! Domain names as they are in messages: labels, each behind its length, and an empty one at the end.

/// The longest name in bytes (RFC 1035, section 2.3.4).
pub(crate) const MAX_LEN: usize = 255;

/// A name in wire form, without compression.
pub(crate) type Name = Box<[u8]>;

/// The same name in lower case, which is how names are compared (RFC 4343). Lengths of labels are
/// below `A`, so they stay.
pub(crate) fn lower(name: &[u8]) -> Name {
    name.to_ascii_lowercase().into()
}

/// The name itself, its parent, and so on; the root comes last.
pub(crate) fn ancestry(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| parent(name))
}

/// The name without its first label; the root has no parent.
pub(crate) fn parent(name: &[u8]) -> Option<&[u8]> {
    match name.first() {
        None | Some(0) => None,
        Some(&len) => name.get(1 + usize::from(len)..),
    }
}

/// Whether `name` is `ancestor` or lies below it; both in lower case.
pub(crate) fn is_within(name: &[u8], ancestor: &[u8]) -> bool {
    ancestry(name).any(|suffix| suffix == ancestor)
}

/// `*.NAME`.
pub(crate) fn wildcard(name: &[u8]) -> Name {
    [b"\x01*", name].concat().into()
}

/// As people write it, with the bytes escaped that have a meaning there (RFC 1035, section 5.1).
pub(crate) fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for label in ancestry(name).filter(|suffix| suffix.len() > 1) {
        for &byte in label.iter().skip(1).take(usize::from(label[0])) {
            match byte {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                    text.extend(['\\', char::from(byte)]);
                }
                0x21..=0x7e => text.push(char::from(byte)),
                _ => text.push_str(&format!("\\{byte:03}")),
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WWW: &[u8] = b"\x03wWw\x07example\x00";

    #[test]
    fn a_name_knows_its_ancestors() {
        let ancestors: Vec<_> = ancestry(WWW).collect();
        assert_eq!(ancestors, [WWW, b"\x07example\x00", b"\x00"]);
        assert!(is_within(&lower(WWW), b"\x07example\x00") && !is_within(b"\x00", b"\x03www\x00"));
        assert_eq!(&*wildcard(b"\x00"), b"\x01*\x00");
    }

    #[test]
    fn a_name_is_printed_with_escapes() {
        assert_eq!(text(WWW), "wWw.example.");
        assert_eq!(text(b"\x00"), ".");
        assert_eq!(text(b"\x03a.\x07\x00"), "a\\.\\007.");
    }
}
