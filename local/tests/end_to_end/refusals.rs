//! Failed starts: one clear line, exit code 1, no secret, nothing left running.

use std::fs;
use std::net::TcpListener;

use crate::project::{Database, Project, exists};

/// The problem with a URL that would be misread.
const ENCODE: &str =
    "has an @ behind the host: in user and password write / as %2F, ? as %3F, # as %23, @ as %40";

/// Must never be printed.
const SECRET: &str = "kanari-Q8vRw2";

#[test]
fn a_port_in_use() {
    let project = Project::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    assert_eq!(
        project.refusal(&[("PORT", &port.to_string())]),
        format!("local: port {port} is in use; stop the program that uses it, or set PORT")
    );
    // Detected before a database is created.
    assert!(!exists(&project.directory.join(".local")));
}

#[test]
fn a_database_that_is_unreachable_or_unusable() {
    let project = Project::new();
    let database = Database::new();
    let (_, place) = database.url.split_once('@').expect("our own URL");
    let (place, _) = place.split_once('?').expect("our own URL");
    let (server, name) = place.split_once('/').expect("our own URL");
    let closed = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let closed_port = closed.local_addr().expect("an address").port();
    drop(closed);

    let cases = [
        (
            format!("postgres://people:{SECRET}@127.0.0.1:{closed_port}/people?sslmode=disable"),
            format!("127.0.0.1:{closed_port}/people"),
            "error communicating with database: Connection refused (os error ",
        ),
        (
            format!("postgres://people:{SECRET}@{place}?sslmode=disable"),
            place.to_owned(),
            "error returned from database: password authentication failed for user \"people\"",
        ),
        (
            database.url.replace(name, "nothing"),
            format!("{server}/nothing"),
            "error returned from database: database \"nothing\" does not exist",
        ),
        // TLS unless the URL says otherwise.
        (
            format!("postgres://people:{SECRET}@{place}"),
            place.to_owned(),
            "error occurred while attempting to establish a TLS connection: \
             server does not support TLS; to connect without it, add ?sslmode=disable to DATABASE_URL",
        ),
        (
            format!("postgres://people:{SECRET}@{place}?sslmode=verify-full&sslrootcert=/nowhere.pem"),
            place.to_owned(),
            "error occurred while attempting to establish a TLS connection: ",
        ),
    ];
    for (url, place, why) in cases {
        let line = project.refusal(&[("PORT", "0"), ("DATABASE_URL", &url)]);
        let expected = format!("local: the database at {place} cannot be migrated: {why}");
        assert!(line.starts_with(&expected), "{line}\n{expected}");
        for secret in [SECRET, database.password()] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_database_of_other_migrations() {
    let project = Project::new();
    let database = Database::new();
    let variables = [("PORT", "0"), ("DATABASE_URL", database.url.as_str())];
    let local = project.start(&variables);
    local.stop();
    database.sql(r"UPDATE people._sqlx_migrations SET checksum = '\x00' WHERE version = 1");
    let line = project.refusal(&variables);
    let expected = "cannot be migrated: nothing was changed: migration 1 was previously applied but has been modified; \
        a version of the project with other migrations made this database: use that one, or a new database (the \
        embedded one is new after its data directory is deleted)";
    assert!(line.ends_with(expected), "{line}");
}

#[test]
fn users_who_would_get_the_same_userid_are_named() {
    let project = Project::new();
    let database = Database::new();
    database.sql(
        r#"CREATE SCHEMA people;
        CREATE TABLE people."user" (user_id uuid PRIMARY KEY, user_name text, country text, job text, phone text,
            email text, init_cn_level text, reg_time timestamptz, password_hash text);
        INSERT INTO people."user" (user_id, user_name)
            VALUES (gen_random_uuid(), 'Alice'), (gen_random_uuid(), 'alice'),
                   (gen_random_uuid(), E'two\nlines'), (gen_random_uuid(), E'Two\nLines')"#,
    );
    let mut variables = vec![("PORT", "0"), ("DATABASE_URL", database.url.as_str())];
    let line = project.refusal(&variables);
    assert!(
        line.contains("the database has 4 users and 0 sessions of an earlier back end"),
        "{line}"
    );
    assert!(line.ends_with("set ADOPT=true or pass --adopt"), "{line}");
    variables.push(("ADOPT", "true"));
    let (status, _, line) = project.begin(project.command(&variables)).wait();
    assert_eq!(status, Some(1), "{line}");
    for name in ["'alice'", "'Alice'"] {
        assert!(line.contains(name), "{line}");
    }
}

#[test]
fn an_invalid_setting_is_named() {
    let project = Project::new();
    let url = format!("postgres://people:{SECRET}@127.0.0.1:1/people");
    for (name, value, problem) in [
        ("PORT", "65536", "must be a whole number from 0 to 65535"),
        ("PORT", "http", "must be a whole number from 0 to 65535"),
        ("PORT", "-1", "must be a whole number from 0 to 65535"),
        (
            "CORS_ALLOWED_ORIGINS",
            "*",
            "must be origins like https://app.example, separated by commas",
        ),
        ("SECRET_KEY", SECRET, "must have at least 32 bytes"),
        ("SECRET_KEY_PREVIOUS", SECRET, "must have at least 32 bytes"),
        ("ALGORITHM", SECRET, "must be HS256, HS384 or HS512"),
        ("ALGORITHM", "none", "must be HS256, HS384 or HS512"),
        (
            "ACCESS_TOKEN_EXPIRE_MINUTES",
            "0",
            "must be a whole number from 1 to 525600",
        ),
        ("PASSWORD_MIN_LENGTH", "7", "must be a whole number from 8 to 64"),
        (
            "ARGON2_MEMORY_KIB",
            "262145",
            "must be a whole number from 8 to 262144",
        ),
        ("DATABASE_POOLER", "session", "must be none or transaction"),
        (
            "DATABASE_URL",
            "mysql://people:kanari-Q8vRw2@127.0.0.1/people",
            "must be a URL like postgres://user:password@host:5432/database",
        ),
        (
            "DATABASE_URL",
            "postgres://people:kanari-Q8vRw2@127.0.0.1:port/people",
            "must be a URL like postgres://user:password@host:5432/database",
        ),
        (
            "HOST",
            SECRET,
            "must be an address of this machine, like 127.0.0.1, or 0.0.0.0 for all",
        ),
        ("ADOPT", SECRET, "must be true or false"),
        (
            "CORS_ALLOWED_ORIGINS",
            "https://app.example/",
            "must be origins like https://app.example, without a slash or a path at the end",
        ),
        // Part of the password would be parsed as the name of a database, or as a query.
        (
            "DATABASE_URL",
            "postgres://u:1234/kanari-Q8vRw2@127.0.0.1/people",
            ENCODE,
        ),
        (
            "DATABASE_URL",
            "postgres://u:1234?kanari-Q8vRw2@127.0.0.1/people",
            ENCODE,
        ),
        (
            "DATABASE_URL",
            "postgres://u:1234#kanari-Q8vRw2@127.0.0.1/people",
            ENCODE,
        ),
        (
            "DATABASE_URL",
            "postgres://u:p@1/kanari-Q8vRw2@127.0.0.1/people",
            ENCODE,
        ),
        (
            "DATABASE_URL",
            "kanari-Q8vRw2",
            "must be a URL like postgres://user:password@host:5432/database",
        ),
    ] {
        let mut variables = vec![("PORT", "0"), ("DATABASE_URL", url.as_str())];
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value));
        assert_eq!(project.refusal(&variables), format!("local: {name} {problem}"));
    }
}

#[test]
fn after_an_invalid_setting_the_embedded_database_is_stopped() {
    let project = Project::new();
    assert_eq!(
        project.refusal(&[("PORT", "0"), ("ARGON2_ITERATIONS", "11")]),
        "local: ARGON2_ITERATIONS must be a whole number from 1 to 10"
    );
    assert_eq!(project.postmaster(), None);
}

#[test]
fn a_wrong_pg_bindir() {
    let project = Project::new();
    let line = project.refusal(&[("PORT", "0"), ("PG_BINDIR", "/nowhere")]);
    assert_eq!(
        line,
        "local: PG_BINDIR=/nowhere: there is no `postgres`; \
         name the directory that holds `postgres` and `initdb`"
    );
}

#[test]
fn an_unknown_argument() {
    let project = Project::new();
    for argument in ["--port=3000", "serve", ""] {
        let mut command = project.command(&[]);
        command.arg(argument);
        let (status, stdout, stderr) = project.begin(command).wait();
        let expected = format!("local: unknown argument {argument:?}; see --help\n");
        assert_eq!((status, stdout, stderr), (Some(1), String::new(), expected));
    }
    let mut command = project.command(&[]);
    command.arg("--help");
    let (status, stdout, stderr) = project.begin(command).wait();
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, local::arguments::HELP);
    assert!(!exists(&project.directory.join(".local")));
}

#[test]
fn an_env_file_that_cannot_be_read() {
    let project = Project::new();
    for (contents, problem) in [
        (
            format!("SECRET_KEY='{SECRET}\n").into_bytes(),
            "line 1 is not NAME=value, or its quotes do not match",
        ),
        (
            format!("# a comment\nPORT=0\nSECRET_KEY=\"a\"{SECRET}\n").into_bytes(),
            "line 3 is not NAME=value, or its quotes do not match",
        ),
        (
            format!("{SECRET}\n").into_bytes(),
            "line 1 is not NAME=value, or its quotes do not match",
        ),
        (
            [b"SECRET_KEY=", SECRET.as_bytes(), b"\xff\n"].concat(),
            "stream did not contain valid UTF-8",
        ),
    ] {
        project.write(".env", contents);
        let line = project.refusal(&[("PORT", "0")]);
        assert_eq!(line, format!("local: .env cannot be read: {problem}"));
    }
    fs::remove_file(project.directory.join(".env")).expect("our file");
    fs::create_dir(project.directory.join(".env")).expect("a directory");
    let line = project.refusal(&[("PORT", "0")]);
    assert!(
        line.starts_with("local: .env cannot be read: Is a directory"),
        "{line}"
    );
    assert!(!exists(&project.directory.join(".local")));
}
