//! Which passwords may be set.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;

use crate::password::Password;
use crate::refusal::Refusal;

/// Most code points of a new password.
const MAX_LENGTH: usize = 128;

/// The most common passwords of 8 and more code points, lower case, sorted bytewise.
static COMMON: &str = include_str!("common_passwords.txt");

impl Password {
    /// A password to set. `context` are the values that a guesser would try first: userid, user name, e-mail.
    ///
    /// # Errors
    /// When it is too short or too long, common, or little more than a part of its context.
    pub fn new_for(typed: &str, min_length: usize, context: &[&str]) -> Result<Self, Refusal> {
        let password = Self::new(typed)?;
        let length = typed.nfc().count();
        if length < min_length {
            return Err("is too short");
        }
        if length > MAX_LENGTH {
            return Err("must have at most 128 characters");
        }
        if is_common(typed) {
            return Err("is one of the most common passwords");
        }
        if is_guessed_from(typed, context) {
            return Err("is easily guessed from the userid, user name or e-mail");
        }
        Ok(password)
    }
}

fn folded(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase()
}

fn is_common(typed: &str) -> bool {
    static SET: std::sync::LazyLock<HashSet<&'static str>> =
        std::sync::LazyLock::new(|| COMMON.lines().collect());
    SET.contains(folded(typed).as_str())
}

/// Whether little is left of a password without the words of its context, backwards and in "leet" too. What is left
/// must by itself be as long as a short password, so that a long phrase may contain a name.
fn is_guessed_from(typed: &str, context: &[&str]) -> bool {
    /// Fewest code points that must be left; the shortest password that any setting allows.
    const MIN_LEFT: usize = 8;
    /// Words that are shorter say little; without them a long phrase would lose its every `e`.
    const MIN_WORD: usize = 3;

    let password = unleeted(typed);
    let mut words: Vec<String> = context
        .iter()
        .flat_map(|value| {
            let parts = value.split(|c: char| !c.is_alphanumeric());
            // Of an address, the part before the @ is a word of its own.
            std::iter::once(*value)
                .chain(value.split('@').next())
                .chain(parts)
                .map(unleeted)
        })
        .filter(|word| !word.is_empty())
        .flat_map(|word| [word.chars().rev().collect(), word])
        .collect();
    // Longest first, so that a name within a name does not hide it.
    words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));

    let mut left = password.clone();
    for word in &words {
        let without = left.replace(word.as_str(), "");
        if without.is_empty() || word.chars().count() >= MIN_WORD {
            left = without;
        }
    }
    left != password && left.chars().count() < MIN_LEFT
}

/// Letters and digits only, folded, with the usual replacements undone.
fn unleeted(text: &str) -> String {
    folded(text)
        .chars()
        .map(|c| match c {
            '0' => 'o',
            '1' | '!' | 'l' => 'i',
            '3' => 'e',
            '4' | '@' => 'a',
            '5' | '$' => 's',
            '7' => 't',
            other => other,
        })
        .filter(|c| c.is_alphanumeric())
        .collect()
}
