//! The command line.

use std::ffi::OsString;

/// What `--help` prints.
pub const HELP: &str = "\
Runs the account service on this machine, with its own PostgreSQL.

Usage: cargo run -p local -- [--adopt] [--sam]

  --adopt   adopt the users of an earlier back end in the database; same as ADOPT=true
  --sam     let containers of `sam local` reach the database, and write their settings to .local/sam.json
  --help    print this help

Settings are environment variables, or lines NAME=value in a file .env beside Cargo.lock. The most common:
  PORT=3000, HOST=127.0.0.1             address to listen on
  DATABASE_URL=postgres://…             another database; add ?sslmode=disable if its server has no TLS
  CORS_ALLOWED_ORIGINS=https://…,…      instead of any port of localhost, 127.0.0.1 and [::1]
  PG_BINDIR=/usr/lib/postgresql/15/bin  PostgreSQL to run
README.md lists all of them.
";

/// The parsed arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--adopt`
    pub adopt: bool,
    /// `--sam`
    pub sam: bool,
    /// `--help`
    pub help: bool,
}

impl Arguments {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// A sentence that quotes the unknown argument.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut parsed = Self::default();
        for argument in arguments {
            match argument.to_str() {
                Some("--adopt") => parsed.adopt = true,
                Some("--sam") => parsed.sam = true,
                Some("--help" | "-h") => parsed.help = true,
                _ => {
                    return Err(format!(
                        "unknown argument {:?}; see --help",
                        argument.to_string_lossy()
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn known_arguments_are_accepted_in_any_order_and_others_rejected() {
        assert_eq!(parse(&[]), Ok(Arguments::default()));
        let both = Arguments {
            adopt: true,
            sam: true,
            help: false,
        };
        assert_eq!(parse(&["--sam", "--adopt", "--sam"]).as_ref(), Ok(&both));
        assert!(parse(&["-h"]).is_ok_and(|arguments| arguments.help));
        for unknown in ["--adopt=true", "--port", "3000", "", "-"] {
            let expected = format!("unknown argument {unknown:?}; see --help");
            assert_eq!(parse(&["--sam", unknown]), Err(expected));
        }
    }

    #[test]
    fn the_help_names_every_argument() {
        for argument in ["--adopt", "--sam", "--help"] {
            assert!(HELP.contains(&format!("\n  {argument} ")));
        }
    }
}
