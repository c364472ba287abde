//! Hashing and verifying passwords. [`crate::password_policy`] decides which may be set.

mod hasher;
mod kind;
mod stored;

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

pub use self::kind::{MAX_PARAMETERS, Parameters};

use self::hasher::Hasher;
use self::stored::Stored;
use crate::config::PasswordConfig;
use crate::password_policy::PasswordPolicy;
use crate::validation::ValidationError;

/// A password as typed. Cannot be printed.
pub struct Password(SecretString);

impl Password {
    /// A password to verify. Only NUL is rejected: an old password may be short, and a wrong one is simply wrong.
    ///
    /// # Errors
    /// When it contains NUL, which bcrypt would treat as its end.
    pub fn new(typed: &str) -> Result<Self, ValidationError> {
        if typed.contains('\0') {
            return Err(ValidationError::Nul);
        }
        Ok(Self(typed.into()))
    }

    /// A password in a request.
    ///
    /// # Errors
    /// When it is empty, and as [`Password::new`].
    pub fn typed(typed: &str) -> Result<Self, ValidationError> {
        if typed.is_empty() {
            Err(ValidationError::Empty)
        } else {
            Self::new(typed)
        }
    }

    /// The text to hash: NFC, so that a password typed on another system is the same (NIST SP 800-63B-4 §3.1.1.2).
    fn normalized(&self) -> SecretString {
        self.0.expose_secret().nfc().collect::<String>().into()
    }
}

/// Whether a hash from elsewhere could verify a password here: of Argon2id (a PHC string) or bcrypt, well-formed and
/// within the limits.
#[must_use]
pub fn is_usable_hash(hash: &str) -> bool {
    Stored::parse(hash).is_some()
}

/// Why a password could not be hashed.
#[derive(Debug, Error)]
pub enum HashError {
    /// Hashing failed: a defect, or out of memory.
    #[error("Argon2: {0}")]
    Argon2(argon2::Error),
    /// The operating system returned no random bytes.
    #[error("no random bytes")]
    Random,
    /// The hashing task ended early. Its message is not shown: that of a panic may contain anything.
    #[error("hashing ended early")]
    Task(#[from] tokio::task::JoinError),
    /// Shutting down.
    #[error("hashing is closed")]
    Closed,
}

/// The result of comparing a password with a hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They match. `replacement` is to be stored instead of a hash of another kind or with other parameters.
    Right {
        /// A PHC string.
        replacement: Option<String>,
    },
    /// They do not match, or there is no usable hash.
    Wrong,
}

/// Hashes and verifies off the async thread, as many at a time as there are processors, each in a buffer that is
/// reused: otherwise page faults are a third of the work and the heap grows with every hash.
pub struct Passwords {
    hasher: Arc<Hasher>,
    permits: Arc<Semaphore>,
    policy: PasswordPolicy,
}

impl Passwords {
    /// Allocates nothing yet.
    #[must_use]
    pub fn new(config: &PasswordConfig) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            hasher: Arc::new(Hasher::new(config.parameters)),
            permits: Arc::new(Semaphore::new(processors)),
            policy: config.policy.clone(),
        }
    }
    /// Which passwords may be set.
    #[must_use]
    pub fn policy(&self) -> &PasswordPolicy {
        &self.policy
    }

    /// A PHC string for a new password.
    ///
    /// # Errors
    /// When the machine fails; never because of the password.
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        self.off_thread(move |hasher| hasher.hash(&password)).await
    }

    /// Compares a password with a stored hash; without a usable hash the verdict is `Wrong`. Every `Wrong` takes the
    /// same work, one hash of the current kind and one of each of `kinds_in_use`: otherwise the time would reveal whose
    /// hash is of which kind, and who has none.
    ///
    /// # Errors
    /// When the machine fails; never because of the password or the stored hash.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
        kinds_in_use: Vec<String>,
    ) -> Result<Verdict, HashError> {
        self.off_thread(move |hasher| hasher.verify(&password, stored.as_deref(), &kinds_in_use))
            .await
    }

    /// The permit moves with the work: a client that disconnects does not let another hash start before this one has
    /// ended.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| HashError::Closed)?;
        let hasher = self.hasher.clone();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| work(&hasher))
        })
        .await?
    }
}
