//! Passwords: how they are hashed and verified. Which are accepted says [`crate::password_policy`].

use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::phc::{Ident, Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use crate::config::PasswordConfig;
use crate::password_policy::PasswordPolicy;
use crate::validation::ValidationError;

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

/// The most work, as [`Kind::work`] counts it, that a failed attempt does besides the kind of new hashes and its own: that
/// of one hash at the bounds, about a second.
const MAX_DUMMY_WORK: u64 = MAX_PARAMETERS.memory_kib as u64 * MAX_PARAMETERS.iterations as u64;

/// Bytes of a salt and of a hash (RFC 9106 §3.1, §4).
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A password as somebody typed it. Cannot be printed.
pub struct Password(SecretString);

impl Password {
    /// A password to try. Nothing but NUL is refused: an old one may be short, and a wrong one is just wrong.
    ///
    /// # Errors
    /// When it has a NUL, which bcrypt would take for its end.
    pub fn new(typed: &str) -> Result<Self, ValidationError> {
        if typed.contains('\0') {
            return Err(ValidationError::Nul);
        }
        Ok(Self(typed.into()))
    }

    /// What is hashed: NFC, so that a password typed on another system is the same (NIST SP 800-63B-4 §3.1.1.2).
    fn normalized(&self) -> SecretString {
        self.0.expose_secret().nfc().collect::<String>().into()
    }
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
    /// The task that hashed is gone. Its own words are not shown: those of a panic may hold anything.
    #[error("hashing ended early")]
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
    policy: PasswordPolicy,
}

struct Hasher {
    parameters: Parameters,
    memory: Mutex<Vec<Vec<Block>>>,
    random: SystemRandom,
    #[cfg(test)]
    computed: Mutex<Vec<Kind>>,
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
                #[cfg(test)]
                computed: Mutex::default(),
            }),
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
    /// When the machine fails, never because of the password.
    pub async fn hash(&self, password: Password) -> Result<String, HashError> {
        self.off_thread(move |hasher| hasher.hash(&password)).await
    }

    /// Compares a password with a stored hash; without a usable one the verdict is `Wrong`. Every `Wrong` is the work of the
    /// kind of new hashes and of each of `kinds_in_use`, once: else the time would tell whose hash is of which kind, and
    /// who has none.
    ///
    /// # Errors
    /// When the machine fails, never because of the password or the stored hash.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
        kinds_in_use: Vec<String>,
    ) -> Result<Verdict, HashError> {
        self.off_thread(move |hasher| hasher.verify(&password, stored.as_deref(), &kinds_in_use))
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
        kinds_in_use: &[String],
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
            }) => self.argon2id(password, salt, *version, params)? == *hash,
            Some(Stored::Bcrypt { hash, .. }) => self.bcrypt_verifies(password, hash),
            None => false,
        };
        if !right {
            let own = parsed.as_ref().map(Stored::kind);
            for kind in kinds_to_compute(self.current_kind(), kinds_in_use) {
                if Some(kind) != own {
                    self.compute_dummy(password, kind)?;
                }
            }
            return Ok(Verdict::Wrong);
        }
        let current = parsed.is_some_and(|parsed| parsed.is_current(self.current_kind()));
        // A replacement that cannot be made must not fail the login.
        let replacement = if current { None } else { self.hash(password).ok() };
        Ok(Verdict::Right { replacement })
    }

    /// What new hashes are made with.
    fn current_kind(&self) -> Kind {
        Kind::Argon2id {
            version: Version::V0x13,
            parameters: self.parameters,
        }
    }

    /// The work of a comparison that fails.
    fn compute_dummy(&self, password: &Password, kind: Kind) -> Result<(), HashError> {
        match kind {
            Kind::Argon2id { version, parameters } => {
                let params = parameters.to_argon2(HASH_BYTES).map_err(HashError::Argon2)?;
                self.argon2id(password, &[0; SALT_BYTES], version, &params)?;
            }
            Kind::Bcrypt { cost } => {
                self.bcrypt_verifies(password, &dummy_bcrypt_hash(cost));
            }
        }
        Ok(())
    }

    fn argon2id(
        &self,
        password: &Password,
        salt: &[u8],
        version: Version,
        params: &Params,
    ) -> Result<Output, HashError> {
        #[cfg(test)]
        self.record(Kind::Argon2id {
            version,
            parameters: Parameters::of(params),
        });
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

    /// bcrypt as the Python back end had it: over the first 72 bytes of what was typed, not normalized. A password that
    /// NFC changes is tried in both forms, since people log in from other systems than they registered on.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests record the work"))]
    fn bcrypt_verifies(&self, password: &Password, stored: &str) -> bool {
        #[cfg(test)]
        self.record(Kind::parse(stored).expect("a hash of bcrypt"));
        let verifies = |password: &str| bcrypt::verify(password, stored).unwrap_or(false);
        let typed = password.0.expose_secret();
        verifies(typed) || {
            let normalized = password.normalized();
            normalized.expose_secret() != typed && verifies(normalized.expose_secret())
        }
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
    fn of(params: &Params) -> Self {
        Self {
            memory_kib: params.m_cost(),
            iterations: params.t_cost(),
            parallelism: params.p_cost(),
        }
    }

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

/// What a hash is made with: it decides how much work it is to verify one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Argon2id {
        version: Version,
        parameters: Parameters,
    },
    Bcrypt {
        cost: u32,
    },
}

impl Kind {
    /// `$argon2id$v=19$m=19456,t=2,p=1` or `$2b$12`, and what follows in a hash. `None` for other algorithms and beyond the
    /// bounds, where nothing is computed.
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with("$2") {
            // $2x$ marks hashes of a broken implementation.
            let rest = ["$2a$", "$2b$", "$2y$"]
                .iter()
                .find_map(|prefix| text.strip_prefix(prefix))?;
            let cost = rest.split('$').next()?;
            let two_digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
            let cost: u32 = two_digits.then(|| cost.parse().ok())??;
            (4..=MAX_BCRYPT_COST)
                .contains(&cost)
                .then_some(Self::Bcrypt { cost })
        } else {
            Self::of_phc(&PasswordHash::new(text).ok()?)
        }
    }

    fn of_phc(phc: &PasswordHash) -> Option<Self> {
        if phc.algorithm.as_str() != "argon2id" {
            return None;
        }
        // Without a version it is the one from before there were versions.
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).ok()?;
        let parameters = Parameters::of(&Params::try_from(phc).ok()?);
        let bounded = parameters.memory_kib <= MAX_PARAMETERS.memory_kib
            && parameters.iterations <= MAX_PARAMETERS.iterations
            && parameters.parallelism <= MAX_PARAMETERS.parallelism;
        bounded.then_some(Self::Argon2id { version, parameters })
    }

    /// In KiB that Argon2id fills, about 0.4 µs each.
    fn work(self) -> u64 {
        /// What the two rounds of bcrypt's key schedule take that each doubling of its cost doubles, in the same unit.
        const KIB_PER_BCRYPT_ROUND: u64 = 150;
        match self {
            Self::Argon2id { parameters, .. } => {
                u64::from(parameters.memory_kib) * u64::from(parameters.iterations)
            }
            Self::Bcrypt { cost } => KIB_PER_BCRYPT_ROUND << cost,
        }
    }
}

/// The kinds that a failed attempt computes, each once: that of new hashes, then those `in_use`, the cheapest first, as
/// far as they are [`MAX_DUMMY_WORK`] together.
fn kinds_to_compute(current: Kind, in_use: &[String]) -> Vec<Kind> {
    let mut others: Vec<Kind> = in_use.iter().filter_map(|kind| Kind::parse(kind)).collect();
    others.sort_by_key(|kind| kind.work());
    let mut kinds = vec![current];
    let mut work = 0;
    for kind in others {
        if !kinds.contains(&kind) && work + kind.work() <= MAX_DUMMY_WORK {
            work += kind.work();
            kinds.push(kind);
        }
    }
    kinds
}

/// A hash that no password is known for: its digest is all zero bits.
fn dummy_bcrypt_hash(cost: u32) -> String {
    format!("$2b${cost:02}${:.<53}", "")
}

/// A stored hash within its bounds.
enum Stored<'a> {
    Argon2id {
        version: Version,
        params: Params,
        salt: Vec<u8>,
        hash: Output,
    },
    Bcrypt {
        cost: u32,
        hash: &'a str,
    },
}

impl<'a> Stored<'a> {
    /// `None` for what is malformed, of an unknown kind, or would cost too much to compute.
    fn parse(stored: &'a str) -> Option<Self> {
        match Kind::parse(stored)? {
            Kind::Bcrypt { cost } => {
                // $2b$12$, and salt and hash in bcrypt's own base64.
                let salt_and_hash = stored.get(7..)?;
                let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
                (salt_and_hash.len() == 53 && salt_and_hash.bytes().all(base64))
                    .then_some(Self::Bcrypt { cost, hash: stored })
            }
            Kind::Argon2id { version, .. } => {
                let phc = PasswordHash::new(stored).ok()?;
                let salt = phc.salt?.as_ref().to_vec();
                (salt.len() >= argon2::MIN_SALT_LEN).then_some(Self::Argon2id {
                    version,
                    params: Params::try_from(&phc).ok()?,
                    salt,
                    hash: phc.hash?,
                })
            }
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Argon2id { version, params, .. } => Kind::Argon2id {
                version: *version,
                parameters: Parameters::of(params),
            },
            Self::Bcrypt { cost, .. } => Kind::Bcrypt { cost: *cost },
        }
    }

    /// Whether it is as new ones are.
    fn is_current(&self, current: Kind) -> bool {
        matches!(self, Self::Argon2id { salt, hash, .. }
            if self.kind() == current && salt.len() == SALT_BYTES && hash.len() == HASH_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: Parameters = Parameters {
        memory_kib: 64,
        iterations: 3,
        parallelism: 1,
    };
    const ARGON2_T2: &str =
        "$argon2id$v=19$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog";
    const ARGON2_T3: &str =
        "$argon2id$v=19$m=64,t=3,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog";
    const ARGON2_OLD: &str =
        "$argon2id$m=64,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$ktxdZwGWI4aL3geSdeUi9LfoIT00FO2Fy8KsikERcog";
    const BCRYPT_4: &str = "$2a$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG";
    const BCRYPT_5: &str = "$2y$05$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG";

    impl Hasher {
        pub(super) fn record(&self, kind: Kind) {
            self.computed.lock().unwrap().push(kind);
        }
    }

    fn configured() -> Passwords {
        Passwords::new(&PasswordConfig {
            policy: PasswordPolicy::new(8, &[]),
            parameters: CONFIGURED,
        })
    }

    fn kinds(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// What a failed attempt on `stored` computes, in no order.
    fn work_of_failure(stored: Option<&str>, in_use: &[String]) -> Vec<String> {
        let passwords = configured();
        let password = Password::new("wrong password").unwrap();
        let verdict = passwords.hasher.verify(&password, stored, in_use).unwrap();
        assert_eq!(verdict, Verdict::Wrong);
        let computed = passwords.hasher.computed.lock().unwrap();
        let mut computed: Vec<String> = computed.iter().map(|kind| format!("{kind:?}")).collect();
        computed.sort();
        computed
    }

    #[test]
    fn every_failure_computes_each_kind_in_use_once_whatever_is_stored() {
        for (in_use, most) in [
            (kinds(&[]), 1),
            (kinds(&["$argon2id$v=19$m=64,t=3,p=1"]), 1),
            (kinds(&["$argon2id$v=19$m=64,t=2,p=1"]), 2),
            // Two spellings of one kind, and two of another.
            (
                kinds(&[
                    "$2a$04",
                    "$2y$04",
                    "$argon2id$v=19$m=64,t=2,p=1",
                    "$argon2id$v=19$t=2,m=64,p=1",
                ]),
                3,
            ),
            (
                kinds(&[
                    "$2a$04",
                    "$2y$05",
                    "$argon2id$m=64,t=2,p=1",
                    "$argon2id$v=19$m=64,t=2,p=1",
                ]),
                5,
            ),
        ] {
            let expected = work_of_failure(None, &in_use);
            assert_eq!(expected.len(), most, "{in_use:?}");
            let stored = [ARGON2_T2, ARGON2_T3, ARGON2_OLD, BCRYPT_4, BCRYPT_5];
            for stored in stored {
                let own = Kind::parse(stored).unwrap();
                let possible = kinds_to_compute(Kind::parse(ARGON2_T3).unwrap(), &in_use).contains(&own);
                if possible {
                    assert_eq!(
                        work_of_failure(Some(stored), &in_use),
                        expected,
                        "{stored} {in_use:?}"
                    );
                }
            }
            for unusable in [
                "",
                "x",
                "$2x$04$",
                "$argon2id$v=19$m=64,t=3,p=1$AAAA$AAAA",
                "$2b$15$",
            ] {
                assert_eq!(
                    work_of_failure(Some(unusable), &in_use),
                    expected,
                    "{unusable} {in_use:?}"
                );
            }
        }
    }

    #[test]
    fn kinds_beyond_the_bounds_make_no_work() {
        let beyond = kinds(&[
            "",
            "$2b$15",
            "$2b$99",
            "$2b$+4",
            "$2x$04",
            "$argon2id$",
            "$argon2i$v=19$m=64,t=2,p=1",
            "$argon2id$v=18$m=64,t=2,p=1",
            "$argon2id$v=19$m=262145,t=1,p=1",
            "$argon2id$v=19$m=64,t=11,p=1",
            "$argon2id$v=19$m=64,t=1,p=5",
            "$argon2id$v=19$m=4294967295,t=4294967295,p=1",
        ]);
        assert_eq!(work_of_failure(None, &beyond).len(), 1);
    }

    #[test]
    fn many_kinds_make_no_more_work_than_one_hash_at_the_bounds() {
        let current = Kind::parse(ARGON2_T3).unwrap();
        let many: Vec<String> = (4..=14)
            .map(|cost| format!("$2b${cost:02}"))
            .chain((1..=10).map(|t| format!("$argon2id$v=19$m=262144,t={t},p=1")))
            .collect();
        let computed = kinds_to_compute(current, &many);
        let work: u64 = computed.iter().skip(1).map(|kind| kind.work()).sum();
        assert_eq!(computed[0], current);
        assert!((MAX_DUMMY_WORK / 2..=MAX_DUMMY_WORK).contains(&work), "{work}");
        // The one that almost all have in the Python back end's databases is among them.
        assert!(computed.contains(&Kind::Bcrypt { cost: 12 }));
    }

    /// Below the boundary: they take about a second each, which a request's deadline may not leave on a busy machine.
    #[test]
    fn hashes_at_the_bounds_are_computed() {
        let hasher = configured().hasher;
        for stored in [
            "$argon2id$v=19$m=262144,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$oOhmZUyjLgi1tbYM62t3McRv+Qmh4ogkvcTWZlVygLQ",
            "$2b$14$abcdefghijklmnopqrstuuR.Dq4AGB7Nbc2V3071d1urQAqMtPkf6",
        ] {
            let password = Password::new("correct horse battery staple").unwrap();
            let verdict = hasher.verify(&password, Some(stored), &[]).unwrap();
            assert!(
                matches!(verdict, Verdict::Right { replacement: Some(_) }),
                "{stored}"
            );
        }
    }

    #[test]
    fn a_dummy_of_bcrypt_is_computed_and_matches_nothing() {
        for cost in [4, 5] {
            let dummy = dummy_bcrypt_hash(cost);
            assert!(matches!(Stored::parse(&dummy), Some(Stored::Bcrypt { cost: c, .. }) if c == cost));
            assert_eq!(bcrypt::verify("a password", &dummy).ok(), Some(false));
        }
    }
}
