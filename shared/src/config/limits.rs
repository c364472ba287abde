//! How many attempts one source address has.

use super::{ConfigError, Environment};

/// How many attempts one source address has; 0 stands for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures to log in without a consequence; one is forgotten in a minute. A school behind one address raises it.
    pub failures_per_address: u32,
    /// Registrations without a consequence; so many are forgotten in an hour.
    pub registrations_per_address_per_hour: u32,
}

impl Limits {
    /// The settings of this kind in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        /// As much as the database's integer holds.
        const MOST: u32 = i32::MAX as u32;
        Ok(Self {
            failures_per_address: environment.number("FAILURES_PER_ADDRESS", 50, 0..=MOST)?,
            registrations_per_address_per_hour: environment.number(
                "REGISTRATIONS_PER_ADDRESS_PER_HOUR",
                100,
                0..=MOST,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &[(&str, &str)]) -> Result<Limits, String> {
        Limits::from_environment(&settings.iter().copied().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_contracts() {
        assert_eq!(
            limits(&[]),
            Ok(Limits {
                failures_per_address: 50,
                registrations_per_address_per_hour: 100
            })
        );
    }

    #[test]
    fn a_limit_is_at_most_what_the_databases_integer_holds() {
        assert_eq!(
            limits(&[("FAILURES_PER_ADDRESS", "2147483648")]).unwrap_err(),
            "FAILURES_PER_ADDRESS must be a whole number from 0 to 2147483647"
        );
        assert_eq!(
            limits(&[("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "-1")]).unwrap_err(),
            "REGISTRATIONS_PER_ADDRESS_PER_HOUR must be a whole number from 0 to 2147483647"
        );
    }
}
