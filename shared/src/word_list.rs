//! Word lists, searched in place: building a set of them would take longer than hashing a password.

/// Lines in bytewise order, each a word, optionally followed by a tab and a value.
pub(crate) struct WordList(&'static str);

/// The most common passwords of at least 8 code points, in lower case.
pub(crate) static COMMON_PASSWORDS: WordList = WordList(include_str!("common_passwords.txt"));

/// Common passwords, English words and names, in lower case. The value is the half decade of the rank: 0 up to the
/// 10th, 1 up to the 32nd, 2 up to the 100th, …, 6 up to the 10,000th.
pub(crate) static COMMON_WORDS: WordList = WordList(include_str!("common_words.txt"));

impl WordList {
    /// The value of `word`, empty if it has none. `None` if it is not listed.
    pub(crate) fn get(&self, word: &[u8]) -> Option<&'static str> {
        let whole = |(length, value)| (length == word.len()).then_some(value);
        self.prefixes_of(word).find_map(whole)
    }

    /// The words that `text` begins with, the shortest first: the length in bytes, and the value.
    pub(crate) fn prefixes_of(&self, text: &[u8]) -> impl Iterator<Item = (usize, &'static str)> {
        let mut lines = self.0;
        let mut narrowed = text.iter().enumerate().map_while(move |(at, byte)| {
            lines = with_byte(lines, at, *byte);
            let first = lines.lines().next()?;
            Some((at + 1, first))
        });
        // Of the lines that begin with the same bytes, the word which ends there is the first.
        std::iter::from_fn(move || {
            narrowed.find_map(|(length, first)| {
                let (word, value) = first.split_once('\t').unwrap_or((first, ""));
                (word.len() == length).then_some((length, value))
            })
        })
    }
}

/// Those of `lines` that have `byte` at this place. Up to there, they are all the same.
fn with_byte(lines: &'static str, at: usize, byte: u8) -> &'static str {
    let (_, from) = split(lines, at, |found| found < byte);
    if from.as_bytes().get(at) != Some(&byte) {
        return "";
    }
    split(from, at, |found| found == byte).0
}

/// Splits `lines` before the first whose byte at this place does not meet the condition, by binary search.
fn split(lines: &'static str, at: usize, meets: impl Fn(u8) -> bool) -> (&'static str, &'static str) {
    let bytes = lines.as_bytes();
    let (mut start, mut end) = (0, bytes.len());
    while start < end {
        let middle = usize::midpoint(start, end);
        let previous = bytes[start..middle].iter().rposition(|byte| *byte == b'\n');
        let line = previous.map_or(start, |newline| start + newline + 1);
        let Some(found) = bytes.get(line + at) else { break };
        if meets(*found) {
            let length = bytes[line..end].iter().position(|byte| *byte == b'\n');
            start = length.map_or(end, |length| line + length + 1);
        } else {
            end = line;
        }
    }
    lines.split_at(start)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// The lists, and what is in them.
    static LISTS: LazyLock<[(&WordList, BTreeMap<&str, &str>); 2]> = LazyLock::new(|| {
        [&COMMON_PASSWORDS, &COMMON_WORDS].map(|list| {
            let entry = |line: &'static str| line.split_once('\t').unwrap_or((line, ""));
            (list, list.0.lines().map(entry).collect())
        })
    });

    proptest! {
        #[test]
        fn every_word_that_a_text_begins_with_is_found(
            text in prop_oneof!["[a-z0-9]{1,12}", "(pass|love|1234|qwert)[a-z0-9]{0,6}", "\\PC{0,8}", "[ -~]{0,8}"],
        ) {
            for (list, entries) in &*LISTS {
                let expected: Vec<_> = (1..=text.len())
                    .filter_map(|length| Some((length, *entries.get(text.get(..length)?)?)))
                    .collect();
                let found: Vec<_> = list.prefixes_of(text.as_bytes()).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn exactly_the_listed_words_are_found() {
        for (list, entries) in &*LISTS {
            for (word, value) in entries {
                assert_eq!(list.get(word.as_bytes()), Some(*value), "{word}");
            }
            for word in [
                "",
                "\n",
                "a",
                "0",
                "passwor\n",
                "password\t0",
                "zzzzzzzzzzzzzzzzz",
                "~~",
                "é",
                "\u{10ffff}",
            ] {
                assert_eq!(list.get(word.as_bytes()), None, "{word}");
            }
        }
    }
}
