//! Which passwords may be set and how they are hashed.

use super::tokens::issuer;
use super::{ConfigError, Environment};
use crate::password::{MAX_PARAMETERS, Parameters};
use crate::password_policy::PasswordPolicy;

/// Which passwords may be set and how they are hashed.
#[derive(Clone, Debug)]
pub struct PasswordConfig {
    /// Which new passwords are accepted.
    pub policy: PasswordPolicy,
    /// Parameters of new hashes.
    pub parameters: Parameters,
}

impl PasswordConfig {
    /// The password settings in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or invalid.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let parallelism = environment.number("ARGON2_PARALLELISM", 1, 1..=MAX_PARAMETERS.parallelism)?;
        // At least 8 KiB per lane (RFC 9106 §3.1).
        let memory = 8 * parallelism..=MAX_PARAMETERS.memory_kib;
        let min_length = environment.number("PASSWORD_MIN_LENGTH", 8, 8..=64)?;
        let service = environment
            .text("PASSWORD_CONTEXT")
            .unwrap_or_else(|| issuer(environment));
        let words: Vec<String> = service.split(',').map(str::to_owned).collect();
        Ok(Self {
            policy: PasswordPolicy::new(min_length, &words),
            parameters: Parameters {
                memory_kib: environment.number("ARGON2_MEMORY_KIB", 19_456, memory)?,
                iterations: environment.number("ARGON2_ITERATIONS", 2, 1..=MAX_PARAMETERS.iterations)?,
                parallelism,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(settings: &[(&str, &str)]) -> Result<PasswordConfig, String> {
        PasswordConfig::from_environment(&settings.iter().copied().collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_contracts() {
        assert_eq!(
            passwords(&[]).unwrap().parameters,
            Parameters {
                memory_kib: 19_456,
                iterations: 2,
                parallelism: 1
            }
        );
    }

    #[test]
    fn a_number_out_of_its_range_is_named_with_the_range() {
        for (name, value, range) in [
            ("PASSWORD_MIN_LENGTH", "7", "8 to 64"),
            ("ARGON2_MEMORY_KIB", "4", "8 to 262144"),
            ("ARGON2_ITERATIONS", "11", "1 to 10"),
            ("ARGON2_PARALLELISM", "5", "1 to 4"),
        ] {
            assert_eq!(
                passwords(&[(name, value)]).err().unwrap(),
                format!("{name} must be a whole number from {range}")
            );
        }
    }

    #[test]
    fn each_lane_has_8_kib_of_memory() {
        let with_lanes = |memory| passwords(&[("ARGON2_PARALLELISM", "4"), ("ARGON2_MEMORY_KIB", memory)]);
        assert_eq!(
            with_lanes("31").err().unwrap(),
            "ARGON2_MEMORY_KIB must be a whole number from 32 to 262144"
        );
        assert_eq!(with_lanes("32").unwrap().parameters.memory_kib, 32);
    }
}
