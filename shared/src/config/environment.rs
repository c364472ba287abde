//! The variables that settings are read from: those of the process, or a map in a test.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;

use super::ConfigError;

/// Variables to read settings from.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The variables of this process. Invalid UTF-8 in a value is replaced, so that the setting is rejected as invalid
    /// rather than treated as absent. If any of the driver's own variables is set, the program restarts without them.
    #[must_use]
    pub fn of_process() -> Self {
        without_driver_variables();
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// Sets `name` unless it has a value already.
    pub fn set_default(&mut self, name: &str, value: impl Into<String>) {
        if self.text(name).is_none() {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// The value of `name`. An empty value counts as absent, since templates cannot leave a variable out.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of `name` as a whole number.
    ///
    /// # Errors
    /// When it is not a whole number or outside `range`.
    pub fn number<T>(
        &self,
        name: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(ConfigError::new(
                name,
                format!("must be a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// The value of `name` as a boolean; absent is `false`.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    pub fn flag(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ConfigError::new(name, "must be true or false")),
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// Variables that the driver reads besides `DATABASE_URL`. It can only be kept from reading them by removing them.
const DRIVER_VARIABLES: [&str; 13] = [
    "PGAPPNAME",
    "PGDATABASE",
    "PGHOST",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGUSER",
];

/// Re-executes this program if one of [`DRIVER_VARIABLES`] is set: removing a variable from a running process is
/// unsafe.
fn without_driver_variables() {
    if DRIVER_VARIABLES
        .iter()
        .all(|name| std::env::var_os(name).is_none())
    {
        return;
    }
    let error = std::env::current_exe().map(|program| {
        let mut restart = Command::new(program);
        restart.args(std::env::args_os().skip(1));
        for name in DRIVER_VARIABLES {
            restart.env_remove(name);
        }
        // Returns only when it fails.
        restart.exec()
    });
    let (Ok(error) | Err(error)) = error;
    tracing::error!(%error, "cannot start without the variables PG*: unset them");
    std::process::exit(1);
}

/// The endpoint of AWS, if it is not the default one: an emulator, or a VPC endpoint without private DNS. It is AWS's
/// own variable, so it is read from the process, as the SDK reads the others.
pub(crate) fn aws_endpoint_url() -> Option<String> {
    std::env::var("AWS_ENDPOINT_URL")
        .ok()
        .filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_absent() {
        let mut environment = Environment::from_iter([("NAME", "")]);
        assert_eq!(environment.text("NAME"), None);
        environment.set_default("NAME", "default");
        environment.set_default("NAME", "another");
        assert_eq!(environment.text("NAME"), Some("default"));
    }

    #[test]
    fn a_number_is_whole_and_within_its_range() {
        let number = |text: &str| Environment::from_iter([("NAME", text)]).number("NAME", 60, 1..=100);
        assert_eq!(number(""), Ok(60));
        assert_eq!(number("1"), Ok(1));
        assert_eq!(number("100"), Ok(100));
        for text in ["0", "101", "-1", "1.5", "1e1", " 1", "99999999999999999999", "x"] {
            assert_eq!(
                number(text).unwrap_err().to_string(),
                "NAME must be a whole number from 1 to 100",
                "{text}"
            );
        }
    }

    #[test]
    fn a_flag_is_true_or_false() {
        let flag = |text: &str| Environment::from_iter([("NAME", text)]).flag("NAME");
        assert_eq!(flag(""), Ok(false));
        assert_eq!(flag("false"), Ok(false));
        assert_eq!(flag("true"), Ok(true));
        for text in ["TRUE", "1", "yes"] {
            assert_eq!(
                flag(text).unwrap_err().to_string(),
                "NAME must be true or false",
                "{text}"
            );
        }
    }
}
