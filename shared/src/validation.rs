//! Why a value is rejected.

use serde::{Serialize, Serializer};
use thiserror::Error;

/// A short message that states the limit and never quotes the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ValidationError {
    /// The member is absent or null.
    #[error("is required")]
    Missing,
    /// It has the wrong JSON type.
    #[error("must be a string")]
    NotText,
    /// It is changed by another endpoint, or not at all.
    #[error("cannot be changed here")]
    NotChangeable,
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It contains NUL, which neither PostgreSQL nor bcrypt supports.
    #[error("must not have a NUL character")]
    Nul,
    /// Too few or too many code points.
    #[error("must have {0} to {1} characters")]
    Length(usize, usize),
    /// Too few code points.
    #[error("must have at least {0} characters")]
    TooShort(usize),
    /// Too many code points.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// It contains control characters.
    #[error("must not have control characters")]
    Control,
    /// It contains invisible characters or white space.
    #[error("must not have white space, control or invisible characters")]
    Invisible,
    /// It contains nothing visible.
    #[error("must have a visible character")]
    NothingVisible,
    /// It begins with a mark that would combine with the text before it.
    #[error("must not begin with a combining mark")]
    CombiningMark,
    /// It mixes scripts that UTS #39 does not allow together at its level "highly restrictive".
    #[error("must be of one script (Latin may stand with Han, kana, Bopomofo or Hangul)")]
    MixedScripts,
    /// Not a telephone number.
    #[error("must have only digits and + ( ) - . and spaces")]
    Phone,
    /// Not an e-mail address.
    #[error("must be an e-mail address of at most {0} characters")]
    Email(usize),
    /// It is on the list of common passwords.
    #[error("is one of the most common passwords")]
    CommonPassword,
    /// A slightly extended common password, or a repetition or sequence of characters.
    #[error("is a simple variation of a common password")]
    CommonPasswordVariation,
    /// It is little more than known facts about the user or the service.
    #[error("is easily guessed from the userid, user name, e-mail, phone or the service's name")]
    GuessedFromContext,
}

impl Serialize for ValidationError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
