//! The file `.env`: lines `NAME=value` with literal values. `$` and `\` are ordinary characters.

/// Names and values, in order.
///
/// A line may begin with `export`. White space around name and value is ignored. A value may be in single or double
/// quotes. A line that begins with `#` is a comment; after a value without quotes, `#` after white space begins one.
///
/// # Errors
/// The number, from 1, of the first invalid line. Not its text, which may contain a secret.
pub fn parse(text: &str) -> Result<Vec<(&str, &str)>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| entry(line).ok_or(number))
        .collect()
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line,
    };
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim_end(), value.trim_start());
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let value = if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        let (value, rest) = value[1..].split_once(quote)?;
        let rest = rest.trim_start();
        (rest.is_empty() || rest.starts_with('#')).then_some(value)?
    } else {
        let comment = value
            .char_indices()
            .find(|&(at, c)| c == '#' && value[..at].chars().next_back().is_none_or(char::is_whitespace));
        value[..comment.map_or(value.len(), |(at, _)| at)].trim_end()
    };
    is_name.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_literal() {
        for (line, value) in [
            (r#"A="a$bc\n$(id)`id`${X}""#, r"a$bc\n$(id)`id`${X}"),
            (r"A='a$b\'", r"a$b\"),
            (r"A=a$b\c'd", r"a$b\c'd"),
            ("A=a#b", "a#b"),
            ("A=a # b", "a"),
            ("A=\"a # b\" # c", "a # b"),
            ("A='\"'", "\""),
            ("A= a b ", "a b"),
            ("A=", ""),
            ("A=\"\"", ""),
            ("A=# nothing", ""),
            ("A=x==", "x=="),
            ("export A=1", "1"),
            ("export\tA = 1", "1"),
            ("A=1\r", "1"),
            ("\u{feff}A=1", "1"),
        ] {
            assert_eq!(parse(line), Ok(vec![("A", value)]), "{line}");
        }
        assert_eq!(parse("# A=1\n\n  # B=2\n"), Ok(Vec::new()));
        assert_eq!(parse("exportA=1"), Ok(vec![("exportA", "1")]));
    }

    #[test]
    fn an_invalid_line_is_rejected_by_its_number() {
        for line in [
            "A",
            "=1",
            "1A=1",
            "A B=1",
            "export =1",
            "A=\"1",
            "A='1' 2",
            "A=\"a\"b\"",
        ] {
            assert_eq!(parse(&format!("# one\n\n{line}\nB=2")), Err(3), "{line}");
        }
    }

    proptest! {
        /// Any value without both kinds of quotes can be written, and is read unchanged.
        #[test]
        fn a_quoted_value_is_read_as_it_was_written(value in "[^\r\n\u{85}\u{2028}\u{2029}'\"]{0,40}", mark in "['\"]?") {
            let value = format!("{mark}{value}{mark}");
            let quote = if mark == "'" { '"' } else { '\'' };
            let line = format!("A={quote}{value}{quote}\n");
            prop_assert_eq!(parse(&line), Ok(vec![("A", &*value)]));
        }

        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
