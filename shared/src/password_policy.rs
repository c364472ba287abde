//! Which passwords may be set.

use unicode_normalization::UnicodeNormalization;

use crate::guesses::{EASY, estimate};
use crate::password::Password;
use crate::validation::ValidationError;
use crate::word_list::COMMON_PASSWORDS;

/// Most code points of a new password.
const MAX_LENGTH: usize = 128;

/// The rules for a new password.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    min_length: usize,
    service_words: Vec<String>,
}

impl PasswordPolicy {
    /// A new password has at least `min_length` code points, and is not guessed from `service_words`, which say what it is
    /// a password of.
    #[must_use]
    pub fn new(min_length: usize, service_words: &[String]) -> Self {
        let words = service_words.iter().flat_map(|word| words_of(word)).collect();
        Self {
            min_length,
            service_words: words,
        }
    }

    /// A password to set. `context` are the values that a guesser would try first: userid, user name, e-mail, phone.
    ///
    /// # Errors
    /// When it is too short or too long, a common password or a variation of one, or guessed from its context.
    pub fn check(&self, typed: &str, context: &[&str]) -> Result<Password, ValidationError> {
        let password = Password::new(typed)?;
        let length = typed.nfc().count();
        if length < self.min_length {
            return Err(ValidationError::TooShort(self.min_length));
        }
        if length > MAX_LENGTH {
            return Err(ValidationError::TooLong(MAX_LENGTH));
        }
        let folded = folded(typed);
        if COMMON_PASSWORDS.get(folded.as_bytes()).is_some() {
            return Err(ValidationError::CommonPassword);
        }
        let mut words: Vec<String> = context.iter().flat_map(|value| words_of(value)).collect();
        words.extend_from_slice(&self.service_words);
        let guesses = estimate(&folded, &words);
        // What it is guessed from, rather than what it looks like.
        if guesses.context < EASY {
            return Err(ValidationError::GuessedFromContext);
        }
        if guesses.common < EASY {
            return Err(ValidationError::CommonPasswordVariation);
        }
        Ok(password)
    }
}

fn folded(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase()
}

/// The words by which a value is recognized: itself, its parts, the part of an address before the @, its letters and
/// digits without what is between them.
fn words_of(value: &str) -> Vec<String> {
    let value = folded(value);
    let parts = value.split(|c: char| !c.is_alphanumeric());
    let joined: String = value.chars().filter(|c| c.is_alphanumeric()).collect();
    let mut words: Vec<String> = parts
        .chain(value.split('@').next())
        .chain([value.trim(), &joined])
        .filter(|word| is_telling(word))
        .map(str::to_owned)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Whether a word is long enough to say something: three characters, or two of a script that writes a name in two.
fn is_telling(word: &str) -> bool {
    let length = word.chars().count();
    length >= 3 || (length == 2 && word.chars().all(|c| c.is_alphabetic() && !c.is_lowercase()))
}
