//! The command line.

use std::ffi::OsString;

/// What `--help` prints.
pub const HELP: &str = "\
Runs the account service on this machine, with its own PostgreSQL.

Usage: cargo run -p local -- [--adopt] [--sam]
       cargo run -p local -- admin EVENT

  --adopt   adopt the users of an earlier back end in the database; same as ADOPT=true
  --sam     let containers of `sam local` reach the database, and write their settings to .local/sam.json
  --help    print this help
  admin     do what an operator does, in the same database, whether it is running or not: print the answer of the function
            `admin` to EVENT, a JSON object, or - to read it from standard input; docs/operations.md has examples

Settings are environment variables, or lines NAME=value in a file .env beside Cargo.lock. The most common:
  PORT=3000, HOST=127.0.0.1             address to listen on
  DATABASE_URL=postgres://…             another database; add ?sslmode=disable if its server has no TLS
  CORS_ALLOWED_ORIGINS=https://…,…      instead of any port of localhost, 127.0.0.1 and [::1]
  PG_BINDIR=/usr/lib/postgresql/15/bin  PostgreSQL to run (not from .env)
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
    /// `admin`, and its event.
    pub admin: Option<String>,
}

impl Arguments {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// A sentence that quotes an unknown argument, or says what is missing.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("admin") if parsed == Self::default() => {
                    let event = arguments.next().map(OsString::into_string);
                    match (event, arguments.next()) {
                        (Some(Ok(event)), None) => parsed.admin = Some(event),
                        _ => return Err("admin needs one argument, in quotes; see --help".to_owned()),
                    }
                }
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
            admin: None,
        };
        assert_eq!(parse(&["--sam", "--adopt", "--sam"]).as_ref(), Ok(&both));
        assert!(parse(&["-h"]).is_ok_and(|arguments| arguments.help));
        for unknown in ["--adopt=true", "--port", "3000", "", "-"] {
            let expected = format!("unknown argument {unknown:?}; see --help");
            assert_eq!(parse(&["--sam", unknown]), Err(expected));
        }
    }

    #[test]
    fn admin_stands_alone_with_one_event() {
        let parsed = parse(&["admin", "{}"]).map(|arguments| arguments.admin);
        assert_eq!(parsed, Ok(Some("{}".to_owned())));
        let expected = Err("admin needs one argument, in quotes; see --help".to_owned());
        for refused in [
            &["admin"][..],
            &["admin", "{}", "{}"],
            &["admin", "{}", "--adopt"],
        ] {
            assert_eq!(parse(refused), expected, "{refused:?}");
        }
        let expected = Err("unknown argument \"admin\"; see --help".to_owned());
        assert_eq!(parse(&["--adopt", "admin", "{}"]), expected);
    }

    #[test]
    fn the_help_names_every_argument() {
        for argument in ["--adopt", "--sam", "--help", "admin"] {
            assert!(HELP.contains(&format!("\n  {argument} ")));
        }
    }
}
