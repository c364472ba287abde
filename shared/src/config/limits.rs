//! Limits for one source address.

use super::{ConfigError, Environment};

/// How many attempts one source address may make without a delay; 0 means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failed log-ins; the count decays by one per minute. A school behind one address raises it.
    pub failures_per_address: u32,
    /// Registrations; the count decays by this many per hour.
    pub registrations_per_address_per_hour: u32,
    /// Requests for a mail by those who are not logged in; the count decays by this many per hour.
    pub mails_per_address_per_hour: u32,
}

impl Limits {
    /// The limits in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or invalid.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        /// The maximum of the database's integer.
        const MAX: u32 = i32::MAX as u32;
        Ok(Self {
            failures_per_address: environment.number("FAILURES_PER_ADDRESS", 50, 0..=MAX)?,
            registrations_per_address_per_hour: environment.number(
                "REGISTRATIONS_PER_ADDRESS_PER_HOUR",
                100,
                0..=MAX,
            )?,
            mails_per_address_per_hour: environment.number("MAILS_PER_ADDRESS_PER_HOUR", 20, 0..=MAX)?,
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
                registrations_per_address_per_hour: 100,
                mails_per_address_per_hour: 20
            })
        );
    }

    #[test]
    fn a_limit_fits_the_databases_integer() {
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
