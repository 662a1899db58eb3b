//! The form of a policy's text: what Cedar's validator can tell apart.
//!
//! Validation types a policy once for each action of the schema, which is most of the time that a large set takes. Policies of one
//! form are valid alike, so one of them is validated. Equal forms mean equal tokens but for literals that typing never looks into:
//! the pattern after `like`, a string that an attribute is compared with, the file or directory that `resource` itself is compared
//! with, and the values of annotations. (Cedar does look into literals that are compared with literals, and into arguments of
//! functions such as `ip`; these stay.)

/// The tokens of a policy, without what can't matter.
pub(crate) fn form(text: &str) -> String {
    let mut form = String::with_capacity(text.len());
    // The tokens before the current one, the last one first.
    let mut before: [&str; 4] = [""; 4];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '/' if rest.starts_with("//") => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            c if c.is_whitespace() => c.len_utf8(),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ if ["::", "==", "!=", "<=", ">=", "&&", "||"].iter().any(|symbol| rest.starts_with(symbol)) => 2,
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        rest = after;
        if first.is_whitespace() || token.starts_with("//") {
            continue;
        }
        let kept = if first == '"' && !matters(&before) { "\"\"" } else { token };
        form.push_str(kept);
        form.push(' ');
        before = [token, before[0], before[1], before[2]];
    }
    form
}

/// Whether typing can look into a string literal after these tokens.
fn matters(before: &[&str; 4]) -> bool {
    match before {
        ["like", ..] => false,
        ["==" | "!=", attribute, ".", _] if attribute.chars().all(is_word) => false,
        ["::", "Dir" | "File", "in" | "==", "resource"] => false,
        ["(", annotation, "@", _] if annotation.chars().all(is_word) => false,
        _ => true,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the string literal that the text begins with.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_that_typing_never_looks_into_are_left_out() {
        for (a, b) in [
            (r#"when { resource.path like "/a\"*" };"#, "when{resource.path like // c\n \"/b*\"};"),
            (
                r#"@id("a") permit(principal, action, resource in Dir::"/a");"#,
                r#"@id("b") permit(principal, action, resource in Dir::"/b");"#,
            ),
            (r#"resource.name == "a""#, r#"resource.name == "b""#),
        ] {
            assert_eq!(form(a), form(b));
        }
    }

    #[test]
    fn everything_else_stays() {
        for (a, b) in [
            (r#"ip("1.1.1.1")"#, r#"ip("x")"#),
            (r#"action == Action::"FileRead""#, r#"action == Action::"FileWrite""#),
            (r#""a" == "a""#, r#""a" == "b""#),
            (r#"File::"a" == File::"a""#, r#"File::"a" == File::"b""#),
            (r#"Dir::"a" in Dir::"a""#, r#"Dir::"a" in Dir::"b""#),
            (r#"resource in Dir::"a" && x"#, r#"resource in Dir::"a" || x"#),
            (r#"principal == Agent::"a""#, r#"principal == Agent::"b""#),
            (r#"resource["path"]"#, r#"resource["paht"]"#),
            ("a b", "ab"),
            ("resource.port == 1", "resource.port == 2"),
        ] {
            assert_ne!(form(a), form(b));
        }
    }
}
