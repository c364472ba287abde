//! Lists of words that are searched where they lie: to build a set of them would take longer than a password's hash.

use std::cmp::Ordering;

/// Lines in bytewise order, each a word and, after a tab, what is known of it.
pub(crate) struct WordList(&'static str);

/// The most common passwords of 8 and more code points, in lower case.
pub(crate) static COMMON_PASSWORDS: WordList = WordList(include_str!("common_passwords.txt"));

/// Common passwords, English words and names, in lower case, with their half decade of rank: 0 up to the 10th, 1 up to
/// the 32nd, 2 up to the 100th, …, 6 up to the 10,000th.
pub(crate) static COMMON_WORDS: WordList = WordList(include_str!("common_words.txt"));

impl WordList {
    /// What is known of `word`: empty where its line has no tab. `None` when it is not listed.
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
            let (listed, known) = line.split_once('\t').unwrap_or((line, ""));
            match listed.as_bytes().cmp(word) {
                Ordering::Equal => return Some(known),
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
    fn every_listed_word_is_found_and_no_other() {
        for list in [&COMMON_PASSWORDS, &COMMON_WORDS] {
            for line in list.0.lines() {
                let (word, known) = line.split_once('\t').unwrap_or((line, ""));
                assert_eq!(list.get(word.as_bytes()), Some(known), "{word}");
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
