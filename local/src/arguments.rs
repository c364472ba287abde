//! The command line.

use std::ffi::OsString;

/// What `--help` prints.
pub const HELP: &str = "\
The account service on this machine, with a PostgreSQL of its own.

Usage: cargo run -p local -- [--adopt] [--sam]

  --adopt   take over the rows of an earlier back end in the database; same as ADOPT=true
  --sam     let the containers of `sam local` reach the database, and write their settings to .local/sam.json
  --help    this text

Settings are environment variables, or lines NAME=value of a file .env beside Cargo.lock. Most used:
  PORT=3000, HOST=127.0.0.1             where it listens
  DATABASE_URL=postgres://…             another database; without TLS on its server add ?sslmode=disable
  CORS_ALLOWED_ORIGINS=https://…,…      origins besides any port of localhost, 127.0.0.1 and [::1]
  PG_BINDIR=/usr/lib/postgresql/15/bin  which PostgreSQL to run
README.md has the others.
";

/// What was asked for.
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
    /// Reads what follows the program's name.
    ///
    /// # Errors
    /// A sentence that quotes the argument that is not known.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut parsed = Self::default();
        for argument in arguments {
            match argument.to_str() {
                Some("--adopt") => parsed.adopt = true,
                Some("--sam") => parsed.sam = true,
                Some("--help" | "-h") => parsed.help = true,
                _ => {
                    return Err(format!(
                        "unknown argument {argument:?}; --help names those there are"
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
    fn known_arguments_are_taken_in_any_order_and_others_refused() {
        assert_eq!(parse(&[]), Ok(Arguments::default()));
        let both = Arguments {
            adopt: true,
            sam: true,
            help: false,
        };
        assert_eq!(parse(&["--sam", "--adopt", "--sam"]).as_ref(), Ok(&both));
        assert!(parse(&["-h"]).is_ok_and(|arguments| arguments.help));
        for unknown in ["--adopt=true", "--port", "3000", "", "-"] {
            let expected = format!("unknown argument {unknown:?}; --help names those there are");
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
