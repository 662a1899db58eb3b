//! What is escaped, and what stays as it is; the texts that every way of printing is tried with.

use super::*;

/// What names, reasons and texts may be, and how a line shows it.
pub(crate) const HOSTILE: [(&str, &str); 17] = [
    ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
    ("a\x1b]0;title\x07b", "a\\u{1b}]0;title\\u{7}b"),
    ("a\nleash: 0 denied", "a\\u{a}leash: 0 denied"),
    ("a\r\n  log: /tmp/x", "a\\u{d}\\u{a}  log: /tmp/x"),
    ("a\tb\x08\x7f", "a\\u{9}b\\u{8}\\u{7f}"),
    ("a\u{9b}2Jb\u{85}c", "a\\u{9b}2Jb\\u{85}c"),
    ("a\u{202e}fdp.exe", "a\\u{202e}fdp.exe"),
    ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
    ("a\u{200b}b\u{feff}c\u{2060}", "a\\u{200b}b\\u{feff}c\\u{2060}"),
    ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
    ("\u{ad}\u{61c}\u{180e}", "\\u{ad}\\u{61c}\\u{180e}"),
    ("\u{e0041}\u{e007f}\u{1d173}", "\\u{e0041}\\u{e007f}\\u{1d173}"),
    ("\u{3164}\u{34f}\u{e0100}", "\\u{3164}\\u{34f}\\u{e0100}"),
    ("a\\u{202e}b", "a\\u{5c}u{202e}b"),
    ("\\\\u{a}\\\u{202e}", "\\\\u{5c}u{a}\\\\u{202e}"),
    ("\u{fff0}\u{ffff}", "\\u{fff0}\\u{ffff}"),
    ("👩\u{200d}🚀", "👩\\u{200d}🚀"),
];

/// What stays as it is.
pub(crate) const READABLE: [&str; 8] =
    ["/home/ann/a b", "C:\\users\\new", "Größe über ß", "日本語のファイル", "한국어", "שלום عربي", "😀 ❤\u{fe0f} 👍🏽", "e\u{301}"];

/// Whether a terminal finds nothing in `text` to obey; `\n` apart.
pub(crate) fn is_inert(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !acts(c))
}

#[test]
fn nothing_is_left_to_obey_and_text_stays_readable() {
    for (text, shown) in HOSTILE {
        assert_eq!(escape(text), shown, "{text:?}");
        assert!(is_inert(&escape(text)) && !escape(text).contains('\n'), "{text:?}");
    }
    for text in READABLE {
        assert_eq!(escape(text), text);
    }
}

#[test]
fn every_character_of_a_category_acts() {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
        let category = c.general_category();
        assert!(!matches!(category, Control | Format | LineSeparator | ParagraphSeparator) || acts(c), "U+{:04X}", u32::from(c));
    }
    let letters = ('a'..='\u{24f}').chain('\u{4e00}'..='\u{9fff}').chain('\u{1f300}'..='\u{1f64f}').filter(|c| acts(*c));
    assert_eq!(letters.collect::<Vec<_>>(), ('\u{7f}'..='\u{9f}').chain(['\u{ad}']).collect::<Vec<_>>());
}

/// Undoes [`escape`]: what is shown stands for one text only.
fn unescape(shown: &str) -> String {
    let mut parts = shown.split("\\u{");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once('}').unwrap();
        text.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
        text.push_str(rest);
    }
    text
}

#[test]
fn escapes_are_unambiguous() {
    let texts = HOSTILE.iter().flat_map(|(text, shown)| [*text, *shown]).chain(READABLE);
    for text in texts {
        assert_eq!(unescape(&escape(text)), text);
        assert_eq!(unescape(&escape(&escape(text))), escape(text));
    }
}

#[test]
fn names_cannot_go_on_with_a_sentence() {
    for (text, shown) in [
        ("secrets", "secrets"),
        ("no policy permits it", "`no policy permits it`"),
        ("a` b", "``a` b``"),
        ("``: x", "`````: x```"),
        ("", "``"),
        ("a\u{a0}b", "`a\u{a0}b`"),
        ("größe#1", "größe#1"),
    ] {
        assert_eq!(name(text), shown);
    }
}

#[test]
fn lines_are_made_one_at_a_time() {
    let text = Plain::lines(["a\nb", "c"].map(Plain::line));
    assert_eq!(text.as_str(), "a\\u{a}b\nc");
    assert_eq!(text.raw().as_str(), "a\\u{a}b\r\nc\r");
    assert_eq!(Plain::text("a\x1b\nb\n").as_str(), "a\\u{1b}\nb");
}
