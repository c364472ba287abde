//! Which passwords may be set.

use unicode_normalization::UnicodeNormalization;

use crate::guesses::{EASY, estimate};
use crate::password::Password;
use crate::validation::ValidationError;
use crate::word_list::COMMON_PASSWORDS;

/// Maximum code points of a new password.
const MAX_LENGTH: usize = 128;

/// The rules for a new password.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    min_length: usize,
    service_words: Vec<String>,
}

impl PasswordPolicy {
    /// Requires at least `min_length` code points, and rejects what is easily guessed from `service_words`, the names
    /// of the service.
    #[must_use]
    pub fn new(min_length: usize, service_words: &[String]) -> Self {
        let words = service_words.iter().flat_map(|word| words_of(word)).collect();
        Self {
            min_length,
            service_words: words,
        }
    }

    /// Checks a new password. `context` is what a guesser would try first: userid, user name, e-mail, phone.
    ///
    /// # Errors
    /// When it is too short or too long, a common password or a variation of one, or easily guessed from the context.
    pub fn check(&self, typed: &str, context: &[Option<&str>]) -> Result<Password, ValidationError> {
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
        let mut words: Vec<String> = context
            .iter()
            .flatten()
            .flat_map(|value| words_of(value))
            .collect();
        words.extend_from_slice(&self.service_words);
        let guesses = estimate(&folded, &words);
        // The more specific message first.
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

/// The words of a value: itself, its parts, the part of an address before the @, and its letters and digits without
/// separators.
fn words_of(value: &str) -> Vec<String> {
    let value = folded(value);
    let parts = value.split(|c: char| !c.is_alphanumeric());
    let joined: String = value.chars().filter(|c| c.is_alphanumeric()).collect();
    let mut words: Vec<String> = parts
        .chain(value.split('@').next())
        .chain([value.trim(), &joined])
        .filter(|word| is_distinctive(word))
        .map(str::to_owned)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Whether a word is long enough to be distinctive: three characters, or two in a script that writes names with two.
fn is_distinctive(word: &str) -> bool {
    let length = word.chars().count();
    length >= 3 || (length == 2 && word.chars().all(|c| c.is_alphabetic() && !c.is_lowercase()))
}
