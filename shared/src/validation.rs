//! Why a value is refused.

use serde::{Serialize, Serializer};
use thiserror::Error;

/// One short sentence that states the limit in force and never quotes the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ValidationError {
    /// The member is absent or null.
    #[error("is required")]
    Missing,
    /// It has another JSON type.
    #[error("must be a string")]
    NotText,
    /// Another request changes it, or nobody does.
    #[error("cannot be changed here")]
    NotChangeable,
    /// There is nothing in it.
    #[error("must not be empty")]
    Empty,
    /// Neither PostgreSQL nor bcrypt can have one.
    #[error("must not have a NUL character")]
    Nul,
    /// Fewer or more code points than may be.
    #[error("must have {0} to {1} characters")]
    Length(usize, usize),
    /// Fewer code points than must be.
    #[error("must have at least {0} characters")]
    TooShort(usize),
    /// More code points than may be.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// What would break a line.
    #[error("must not have control characters")]
    Control,
    /// What cannot be seen, or not be told apart by sight.
    #[error("must not have white space, control or invisible characters")]
    Invisible,
    /// There is nothing to be seen in it.
    #[error("must have a visible character")]
    NothingVisible,
    /// It would change what stands before the value.
    #[error("must not begin with a combining mark")]
    CombiningMark,
    /// UTS #39: more than its "highly restrictive" level lets stand together.
    #[error("must be of one script (Latin may stand with Han, kana, Bopomofo or Hangul)")]
    MixedScripts,
    /// Not a telephone number.
    #[error("must have only digits and + ( ) - . and spaces")]
    Phone,
    /// Not an e-mail address.
    #[error("must be an e-mail address of at most {0} characters")]
    Email(usize),
    /// On the list.
    #[error("is one of the most common passwords")]
    CommonPassword,
    /// A common password with a little more, or a repetition or sequence of characters.
    #[error("is a simple variation of a common password")]
    CommonPasswordVariation,
    /// Little more than what is known of the user or the service.
    #[error("is easily guessed from the userid, user name, e-mail, phone or the service's name")]
    GuessedFromContext,
}

impl Serialize for ValidationError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
