//! The kind of a hash (algorithm and parameters), its limits, and how much work it takes.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Params, Version};

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

/// Maximum parameters of a hash, new or stored: without a limit, anyone who can write a row could stall us.
pub const MAX_PARAMETERS: Parameters = Parameters {
    memory_kib: 262_144,
    iterations: 10,
    parallelism: 4,
};

/// Maximum cost of a stored bcrypt hash, for the same reason. 14 takes about a second.
const MAX_BCRYPT_COST: u32 = 14;

/// Maximum work, in the unit of [`Kind::work`], of a failed attempt besides the current kind and its own: that of one
/// hash with the maximum parameters, about a second.
const MAX_DUMMY_WORK: u64 = MAX_PARAMETERS.memory_kib as u64 * MAX_PARAMETERS.iterations as u64;

/// Bytes of a new salt and of a new hash (RFC 9106 §3.1, §4).
pub(super) const SALT_BYTES: usize = 16;
pub(super) const HASH_BYTES: usize = 32;

impl Parameters {
    pub(super) fn of(params: &Params) -> Self {
        Self {
            memory_kib: params.m_cost(),
            iterations: params.t_cost(),
            parallelism: params.p_cost(),
        }
    }

    pub(super) fn to_argon2(self, output_bytes: usize) -> Result<Params, argon2::Error> {
        Params::new(
            self.memory_kib,
            self.iterations,
            self.parallelism,
            Some(output_bytes),
        )
    }

    pub(super) fn blocks(self) -> usize {
        self.to_argon2(HASH_BYTES)
            .map_or(0, |params| params.block_count())
    }
}

/// Algorithm and parameters of a hash, which determine the work of verifying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Argon2id {
        version: Version,
        parameters: Parameters,
    },
    Bcrypt {
        cost: u32,
    },
}

impl Kind {
    /// Parses `$argon2id$v=19$m=19456,t=2,p=1` or `$2b$12`, possibly followed by the rest of a hash. `None` for other
    /// algorithms and beyond the limits: such a hash is never computed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.starts_with("$2") {
            // Not $2x$, which marks hashes of a broken implementation.
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
        // A hash without a version is from before versions were introduced.
        let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).ok()?;
        let parameters = Parameters::of(&Params::try_from(phc).ok()?);
        let bounded = parameters.memory_kib <= MAX_PARAMETERS.memory_kib
            && parameters.iterations <= MAX_PARAMETERS.iterations
            && parameters.parallelism <= MAX_PARAMETERS.parallelism;
        bounded.then_some(Self::Argon2id { version, parameters })
    }

    /// In KiB that Argon2id fills, each about 0.4 µs.
    fn work(self) -> u64 {
        /// Work of one iteration of bcrypt's key schedule, in the same unit. A cost of n means 2^n iterations.
        const KIB_PER_BCRYPT_ROUND: u64 = 150;
        match self {
            Self::Argon2id { parameters, .. } => {
                u64::from(parameters.memory_kib) * u64::from(parameters.iterations)
            }
            Self::Bcrypt { cost } => KIB_PER_BCRYPT_ROUND << cost,
        }
    }
}

/// The kinds that a failed attempt computes, each once: the current one, then those `in_use`, cheapest first, as long
/// as their total is within [`MAX_DUMMY_WORK`].
pub(super) fn kinds_to_compute(current: Kind, in_use: &[String]) -> Vec<Kind> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_kinds_take_no_more_work_than_one_hash_with_maximum_parameters() {
        let current = Kind::parse("$argon2id$v=19$m=64,t=3,p=1").unwrap();
        let many: Vec<String> = (4..=14)
            .map(|cost| format!("$2b${cost:02}"))
            .chain((1..=10).map(|t| format!("$argon2id$v=19$m=262144,t={t},p=1")))
            .collect();
        let computed = kinds_to_compute(current, &many);
        let work: u64 = computed.iter().skip(1).map(|kind| kind.work()).sum();
        assert_eq!(computed[0], current);
        assert!((MAX_DUMMY_WORK / 2..=MAX_DUMMY_WORK).contains(&work), "{work}");
        // Includes the kind of almost all hashes in the Python back end's databases.
        assert!(computed.contains(&Kind::Bcrypt { cost: 12 }));
    }
}
