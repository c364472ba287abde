//! Passwords: which are accepted, how they are hashed and verified.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::phc::{Ident, Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use crate::config::PasswordConfig;
use crate::refusal::Refusal;

/// Parameters of Argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

/// The most that a hash may ask for, ours or a stored one: beyond it, whoever can write a row could stall us.
pub const MAX_PARAMETERS: Parameters = Parameters {
    memory_kib: 262_144,
    iterations: 10,
    parallelism: 4,
};

/// The most that a stored bcrypt hash may ask for, likewise. 14 takes about a second.
const MAX_BCRYPT_COST: u32 = 14;

/// A hash of cost 12, the Python back end's, that no password is known for: its digest is all zero bits.
const BCRYPT_OF_NOBODY: &str = "$2b$12$.....................................................";

/// Bytes of a salt and of a hash (RFC 9106 §3.1, §4).
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Most code points of a new password.
const MAX_LENGTH: usize = 128;

/// The most common passwords of 8 and more code points, lower case, sorted bytewise.
static COMMON: &str = include_str!("common_passwords.txt");

/// A password as somebody typed it. Cannot be printed.
pub struct Password(SecretString);

impl Password {
    /// A password to try. Nothing but NUL is refused: an old one may be short, and a wrong one is just wrong.
    ///
    /// # Errors
    /// When it has a NUL, which bcrypt would take for its end.
    pub fn new(typed: &str) -> Result<Self, Refusal> {
        if typed.contains('\0') {
            return Err("must not have a NUL character");
        }
        Ok(Self(typed.into()))
    }

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

    /// What is hashed: NFC, so that a password typed on another system is the same (NIST SP 800-63B-4 §3.1.1.2).
    fn normalized(&self) -> SecretString {
        self.0.expose_secret().nfc().collect::<String>().into()
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

/// Why a password could not be hashed.
#[derive(Debug, Error)]
pub enum HashError {
    /// The hash itself failed: a defect, or no memory.
    #[error("Argon2: {0}")]
    Argon2(argon2::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// The task that hashed is gone.
    #[error("hashing ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// Shutting down.
    #[error("hashing is closed")]
    Closed,
}

/// Whether a password is the one that a hash was made of.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is. `replacement` is a hash to store in place of one of another kind or with other parameters.
    Right {
        /// A PHC string.
        replacement: Option<String>,
    },
    /// It is not, or there is no usable hash.
    Wrong,
}

/// Hashes and verifies off the async thread, as many at once as there are processors, each with a memory of its own
/// that is kept: without that, page faults are a third of the work and the heap grows by every hash.
pub struct Passwords {
    hasher: Arc<Hasher>,
    permits: Arc<Semaphore>,
    min_length: usize,
}

struct Hasher {
    parameters: Parameters,
    memory: Mutex<Vec<Vec<Block>>>,
    random: SystemRandom,
}

impl Passwords {
    /// As the settings say. Allocates nothing yet.
    #[must_use]
    pub fn new(config: &PasswordConfig) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            hasher: Arc::new(Hasher {
                parameters: config.parameters,
                memory: Mutex::default(),
                random: SystemRandom::new(),
            }),
            permits: Arc::new(Semaphore::new(processors)),
            min_length: config.min_length,
        }
    }

    /// Fewest code points of a new password.
    #[must_use]
    pub fn min_length(&self) -> usize {
        self.min_length
    }

    /// A PHC string for a new password.
    ///
    /// # Errors
    /// When the machine fails, never because of the password.
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        self.off_thread(move |hasher| hasher.hash(&password)).await
    }

    /// Compares a password with a stored hash. Without one, the work is the same and the verdict `Wrong`. `bcrypt_in_use`
    /// says that others have a bcrypt hash: then every `Wrong` is the work of both kinds, or the time would tell who has
    /// which.
    ///
    /// # Errors
    /// When the machine fails, never because of the password or the stored hash.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
        bcrypt_in_use: bool,
    ) -> Result<Verdict, HashError> {
        self.off_thread(move |hasher| hasher.verify(&password, stored.as_deref(), bcrypt_in_use))
            .await
    }

    /// The permit goes with the work: a client that hangs up does not let another hash start before this one ended.
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

impl Hasher {
    fn hash(&self, password: &Password) -> Result<String, HashError> {
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| HashError::Random)?;
        let params = self.parameters.to_argon2(HASH_BYTES).map_err(HashError::Argon2)?;
        let hash = self.argon2id(password, &salt, Version::V0x13, &params)?;
        let phc = PasswordHash {
            algorithm: Ident::new_unwrap("argon2id"),
            version: Some(Version::V0x13.into()),
            params: (&params)
                .try_into()
                .map_err(|_| HashError::Argon2(argon2::Error::MemoryTooMuch))?,
            salt: Salt::new(&salt).ok(),
            hash: Some(hash),
        };
        Ok(phc.to_string())
    }

    fn verify(
        &self,
        password: &Password,
        stored: Option<&str>,
        bcrypt_in_use: bool,
    ) -> Result<Verdict, HashError> {
        let parsed = stored.and_then(Stored::parse);
        if stored.is_some() && parsed.is_none() {
            tracing::error!("a stored password hash is malformed or beyond its bounds");
        }
        let right = match &parsed {
            Some(Stored::Argon2id {
                version,
                params,
                salt,
                hash,
                ..
            }) => self.argon2id(password, salt, *version, params)? == *hash,
            Some(Stored::Bcrypt(hash)) => bcrypt_verifies(password, hash),
            // Equal work where there is nothing to compare with.
            None => self.argon2id_for_nothing(password)?,
        };
        if !right {
            match &parsed {
                Some(Stored::Bcrypt(_)) => self.argon2id_for_nothing(password)?,
                _ if bcrypt_in_use => bcrypt_verifies(password, BCRYPT_OF_NOBODY),
                _ => false,
            };
            return Ok(Verdict::Wrong);
        }
        let current = parsed.is_some_and(|parsed| parsed.is_current(self.parameters));
        // A replacement that cannot be made must not fail the login.
        let replacement = if current { None } else { self.hash(password).ok() };
        Ok(Verdict::Right { replacement })
    }

    /// The work of a comparison that fails.
    fn argon2id_for_nothing(&self, password: &Password) -> Result<bool, HashError> {
        let params = self.parameters.to_argon2(HASH_BYTES).map_err(HashError::Argon2)?;
        self.argon2id(password, &[0; SALT_BYTES], Version::V0x13, &params)?;
        Ok(false)
    }

    fn argon2id(
        &self,
        password: &Password,
        salt: &[u8],
        version: Version,
        params: &Params,
    ) -> Result<Output, HashError> {
        let mut memory = self.take_memory(params.block_count());
        let mut hash = vec![0; params.output_len().unwrap_or(HASH_BYTES)];
        let outcome = Argon2::new(Algorithm::Argon2id, version, params.clone())
            .hash_password_into_with_memory(
                password.normalized().expose_secret().as_bytes(),
                salt,
                &mut hash,
                &mut memory[..],
            );
        self.give_back(memory);
        outcome.map_err(HashError::Argon2)?;
        Output::new(&hash).map_err(|_| HashError::Argon2(argon2::Error::OutputTooLong))
    }

    fn take_memory(&self, blocks: usize) -> Vec<Block> {
        let kept = self.memory.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = kept.unwrap_or_default();
        if memory.len() != blocks {
            // Freed before the new one is there: never both at once.
            memory = Vec::new();
            memory.resize(blocks, Block::new());
        }
        memory
    }

    /// Keeps only what the configured parameters need; a stored hash may have needed more.
    fn give_back(&self, memory: Vec<Block>) {
        if memory.len() == self.parameters.blocks() {
            self.memory
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(memory);
        }
    }
}

impl Parameters {
    fn to_argon2(self, output_bytes: usize) -> Result<Params, argon2::Error> {
        Params::new(
            self.memory_kib,
            self.iterations,
            self.parallelism,
            Some(output_bytes),
        )
    }

    fn blocks(self) -> usize {
        self.to_argon2(HASH_BYTES)
            .map_or(0, |params| params.block_count())
    }
}

/// A stored hash within its bounds.
enum Stored<'a> {
    Argon2id {
        version: Version,
        parameters: Parameters,
        params: Params,
        salt: Vec<u8>,
        hash: Output,
    },
    Bcrypt(&'a str),
}

impl<'a> Stored<'a> {
    /// `None` for what is malformed, of an unknown kind, or would cost too much to compute.
    fn parse(stored: &'a str) -> Option<Self> {
        if stored.starts_with("$2") {
            Self::parse_bcrypt(stored)
        } else {
            Self::parse_argon2id(stored)
        }
    }

    fn parse_bcrypt(stored: &'a str) -> Option<Self> {
        // $2b$12$ and 53 characters of salt and hash; $2x$ marks hashes of a broken implementation.
        let rest = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .find_map(|prefix| stored.strip_prefix(prefix))?;
        let (cost, salt_and_hash) = rest.split_once('$')?;
        let cost: u32 = cost.parse().ok()?;
        ((4..=MAX_BCRYPT_COST).contains(&cost) && salt_and_hash.len() == 53).then_some(Self::Bcrypt(stored))
    }

    fn parse_argon2id(stored: &str) -> Option<Self> {
        let phc = PasswordHash::new(stored).ok()?;
        if phc.algorithm.as_str() != "argon2id" {
            return None;
        }
        // Without a version it is the one from before there were versions.
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).ok()?;
        let hash = phc.hash?;
        let params = Params::try_from(&phc).ok()?;
        let parameters = Parameters {
            memory_kib: params.m_cost(),
            iterations: params.t_cost(),
            parallelism: params.p_cost(),
        };
        let bounded = parameters.memory_kib <= MAX_PARAMETERS.memory_kib
            && parameters.iterations <= MAX_PARAMETERS.iterations
            && parameters.parallelism <= MAX_PARAMETERS.parallelism;
        let salt = phc.salt?.as_ref().to_vec();
        bounded.then_some(Self::Argon2id {
            version,
            parameters,
            params,
            salt,
            hash,
        })
    }

    fn is_current(&self, current: Parameters) -> bool {
        matches!(self, Self::Argon2id { version: Version::V0x13, parameters, salt, hash, .. }
            if *parameters == current && salt.len() == SALT_BYTES && hash.len() == HASH_BYTES)
    }
}

/// bcrypt as the Python back end had it: over the first 72 bytes of what was typed, not normalized. A password that
/// NFC changes is tried in both forms, since people log in from other systems than they registered on.
fn bcrypt_verifies(password: &Password, stored: &str) -> bool {
    let verifies = |password: &str| bcrypt::verify(password, stored).unwrap_or(false);
    let typed = password.0.expose_secret();
    verifies(typed) || {
        let normalized = password.normalized();
        normalized.expose_secret() != typed && verifies(normalized.expose_secret())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_is_computed() {
        assert!(matches!(Stored::parse(BCRYPT_OF_NOBODY), Some(Stored::Bcrypt(_))));
        assert_eq!(bcrypt::verify("a password", BCRYPT_OF_NOBODY).ok(), Some(false));
    }
}
