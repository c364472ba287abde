//! Word lists, searched in place: building a set of them would take longer than hashing a password.

use std::cmp::Ordering;

/// Lines in bytewise order, each a word, optionally followed by a tab and a value.
pub(crate) struct WordList(&'static str);

/// The most common passwords of at least 8 code points, in lower case.
pub(crate) static COMMON_PASSWORDS: WordList = WordList(include_str!("common_passwords.txt"));

/// Common passwords, English words and names, in lower case. The value is the half decade of the rank: 0 up to the 10th,
/// 1 up to the 32nd, 2 up to the 100th, …, 6 up to the 10,000th.
pub(crate) static COMMON_WORDS: WordList = WordList(include_str!("common_words.txt"));

impl WordList {
    /// The value of `word`, empty if it has none. `None` if it is not listed.
    pub(crate) fn get(&self, word: &[u8]) -> Option<&'static str> {
        let (mut start, mut end) = (0, self.0.len());
        while start < end {
            let middle = usize::midpoint(start, end);
            let bytes = self.0.as_bytes();
            let line_start = bytes[..middle]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let line_end = bytes[middle..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(bytes.len(), |at| middle + at);
            let line = self.0.get(line_start..line_end)?;
            let (listed, value) = line.split_once('\t').unwrap_or((line, ""));
            match listed.as_bytes().cmp(word) {
                Ordering::Equal => return Some(value),
                Ordering::Less => start = line_end + 1,
                Ordering::Greater => end = line_start,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_listed_words_are_found() {
        for list in [&COMMON_PASSWORDS, &COMMON_WORDS] {
            for line in list.0.lines() {
                let (word, value) = line.split_once('\t').unwrap_or((line, ""));
                assert_eq!(list.get(word.as_bytes()), Some(value), "{word}");
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
