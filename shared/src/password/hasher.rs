//! Computes hashes on the calling thread, in memory that is reused for the next one.

use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::{Ident, Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::ExposeSecret;

use super::kind::{HASH_BYTES, Kind, Parameters, SALT_BYTES, kinds_to_compute};
use super::stored::{Stored, dummy_bcrypt_hash};
use super::{HashError, Password, Verdict};

pub(super) struct Hasher {
    parameters: Parameters,
    memory: Mutex<Vec<Vec<Block>>>,
    random: SystemRandom,
    #[cfg(test)]
    computed: Mutex<Vec<Kind>>,
}

impl Hasher {
    pub(super) fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            memory: Mutex::default(),
            random: SystemRandom::new(),
            #[cfg(test)]
            computed: Mutex::default(),
        }
    }

    pub(super) fn hash(&self, password: &Password) -> Result<String, HashError> {
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

    pub(super) fn verify(
        &self,
        password: &Password,
        stored: Option<&str>,
        kinds_in_use: &[String],
    ) -> Result<Verdict, HashError> {
        let parsed = stored.and_then(Stored::parse);
        if stored.is_some() && parsed.is_none() {
            tracing::error!("a stored password hash is malformed or exceeds the limits");
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
        // A failure to make the replacement must not fail the log-in.
        let replacement = if current { None } else { self.hash(password).ok() };
        Ok(Verdict::Right { replacement })
    }

    /// The kind of new hashes.
    fn current_kind(&self) -> Kind {
        Kind::Argon2id {
            version: Version::V0x13,
            parameters: self.parameters,
        }
    }

    /// The work of a failed comparison.
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
        self.keep_memory(memory);
        outcome.map_err(HashError::Argon2)?;
        Output::new(&hash).map_err(|_| HashError::Argon2(argon2::Error::OutputTooLong))
    }

    /// bcrypt as the Python back end used it: over the first 72 bytes as typed, without normalization. A password that
    /// NFC changes is tried in both forms, since people log in from other systems than the one they registered on.
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
            // Freed before the new one is allocated: never both at once.
            memory = Vec::new();
            memory.resize(blocks, Block::new());
        }
        memory
    }

    /// Keeps only buffers of the configured size; a stored hash may have needed a larger one.
    fn keep_memory(&self, memory: Vec<Block>) {
        if memory.len() == self.parameters.blocks() {
            self.memory
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(memory);
        }
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

    fn kinds(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// What a failed attempt on `stored` computes, sorted.
    fn work_of_failure(stored: Option<&str>, in_use: &[String]) -> Vec<String> {
        let hasher = Hasher::new(CONFIGURED);
        let password = Password::new("wrong password").unwrap();
        let verdict = hasher.verify(&password, stored, in_use).unwrap();
        assert_eq!(verdict, Verdict::Wrong);
        let computed = hasher.computed.lock().unwrap();
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
    fn kinds_beyond_the_limits_are_not_computed() {
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

    /// A unit test, since each takes about a second: on a busy machine a request might miss its deadline.
    #[test]
    fn hashes_with_maximum_parameters_are_computed() {
        let hasher = Hasher::new(CONFIGURED);
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
}
