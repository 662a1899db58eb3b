//! JSON that can be shown: what a terminal would obey is written as `\uXXXX`, which is the same value to whoever parses it.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::acts;

/// Valid JSON in one line, so that a terminal finds nothing in it. Outside of strings there are only tabs and carriage returns to replace.
pub(crate) fn plain(line: &str) -> Cow<'_, str> {
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return line.into();
    }
    let mut shown = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\t' | '\r' | '\n' => shown.push(' '),
            c if acts(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string can't fail.
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
            c => shown.push(c),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOSTILE, READABLE, is_inert};
    use super::*;

    #[test]
    fn the_value_is_the_same_and_nothing_in_it_is_obeyed() {
        for text in HOSTILE.iter().flat_map(|(text, shown)| [*text, *shown]).chain(READABLE) {
            let value = serde_json::json!({ text: [text, 1.5, null] });
            for written in [value.to_string(), format!("\t{{\r{}: [{0},\t1.5, null]}}\r", serde_json::to_string(text).unwrap())] {
                let shown = plain(&written);
                assert!(is_inert(&shown) && !shown.contains('\n'), "{shown:?}");
                assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            }
        }
        assert_eq!(plain("\"\u{7f}\u{9b}\u{202e}\u{e0041}ä\""), "\"\\u007f\\u009b\\u202e\\udb40\\udc41ä\"");
    }
}
