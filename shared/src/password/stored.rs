//! Hashes as they are stored.

use std::str::FromStr as _;

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Params, Version};

use super::kind::{HASH_BYTES, Kind, Parameters, SALT_BYTES};

/// A stored hash within the limits.
pub(super) enum Stored<'a> {
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
    /// `None` if it is malformed, of an unknown kind, or too expensive to compute.
    pub(super) fn parse(stored: &'a str) -> Option<Self> {
        match Kind::parse(stored)? {
            Kind::Bcrypt { cost } => {
                // Salt and hash, too: otherwise it would be computed in no time, and its user known by that.
                bcrypt::HashParts::from_str(stored)
                    .is_ok()
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

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Argon2id { version, params, .. } => Kind::Argon2id {
                version: *version,
                parameters: Parameters::of(params),
            },
            Self::Bcrypt { cost, .. } => Kind::Bcrypt { cost: *cost },
        }
    }

    /// Whether it is like a new hash.
    pub(super) fn is_current(&self, current: Kind) -> bool {
        matches!(self, Self::Argon2id { salt, hash, .. }
            if self.kind() == current && salt.len() == SALT_BYTES && hash.len() == HASH_BYTES)
    }
}

/// A hash that no known password matches: its digest is all zero bits.
pub(super) fn dummy_bcrypt_hash(cost: u32) -> String {
    format!("$2b${cost:02}${:.<53}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bcrypt_hash_whose_salt_or_hash_cannot_be_decoded_is_unusable() {
        let usable = "$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG";
        assert!(Stored::parse(usable).is_some());
        for (place, character) in [(7, "$"), (28, "v"), (59, "H"), (59, "")] {
            let mut hash = usable.to_owned();
            hash.replace_range(place..=place, character);
            assert!(Stored::parse(&hash).is_none(), "{hash}");
            assert!(bcrypt::verify("a password", &hash).is_err(), "{hash}");
        }
    }

    #[test]
    fn a_dummy_bcrypt_hash_is_computed_and_never_matches() {
        for cost in [4, 5] {
            let dummy = dummy_bcrypt_hash(cost);
            assert!(matches!(Stored::parse(&dummy), Some(Stored::Bcrypt { cost: c, .. }) if c == cost));
            assert_eq!(bcrypt::verify("a password", &dummy).ok(), Some(false));
        }
    }
}
