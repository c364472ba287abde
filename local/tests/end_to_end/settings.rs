//! Sources of settings.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::project::{Database, PASSWORD, Project, exists};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn database_url_replaces_the_embedded_database() {
    let project = Project::new();
    let database = Database::new();
    let variables = [("PORT", "0"), ("DATABASE_URL", database.url.as_str())];
    let local = project.start(&variables);
    let (_, place) = database.url.split_once('@').expect("our own URL");
    let place = place.split('?').next().unwrap_or_default();
    let line = format!("Database: DATABASE_URL at {place}");
    assert_eq!(local.stdout().lines().nth(1), Some(line.as_str()));
    assert_eq!(local.register("alice").outcome(), (200, 1));
    let token = local.log_in("alice").token();
    assert_eq!(database.sql(r#"SELECT userid FROM people."user""#), "alice");
    assert_eq!(project.postmaster(), None);
    assert_eq!(project.database_processes(), [""; 0]);
    let state = fs::read_dir(project.directory.join(".local")).expect("the directory");
    let state: Vec<_> = state.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(state, ["secret_key"]);

    // The database outlives `local`: a second start finds the account, and accepts the token, since its key was kept.
    local.stop();
    let local = project.start(&variables);
    assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));
    assert_eq!(local.register("alice").outcome(), (409, 40901));
}

#[test]
fn a_password_anywhere_in_the_url_is_not_printed() {
    let project = Project::new();
    let database = Database::new();
    let (_, place) = database.url.split_once('@').expect("our own URL");
    let url = format!("postgres://{place}&user=people&password={}", database.password());
    let local = project.start(&[("PORT", "0"), ("DATABASE_URL", &url)]);
    assert_eq!(local.register("alice").outcome(), (200, 1));
    let (stdout, stderr) = local.stop();
    assert!(!stdout.contains(database.password()), "{stdout}");
    assert!(!stderr.contains(database.password()), "{stderr}");
}

#[test]
fn the_environment_takes_precedence_over_the_file() {
    let project = Project::new();
    let database = Database::new();
    let port = free_port();
    project.write(
        ".env",
        format!(
            "# settings of a developer\n\
             DATABASE_URL='{}'\n\
             PORT={port}\n\
             export PASSWORD_MIN_LENGTH=30 # more than usual\n\
             ACCESS_TOKEN_EXPIRE_MINUTES=7\n\
             SECRET_KEY=\"a key of the file, $of at least 32 bytes\"\n",
            database.url
        ),
    );
    // Started from a subdirectory of the checkout.
    let folder = project.directory.join("functions").join("login");
    fs::create_dir_all(&folder).expect("a directory");
    let start = |variables: &[(&str, &str)]| {
        let mut command = project.command(variables);
        command.current_dir(&folder);
        let local = project.begin(command);
        crate::project::eventually("it serves", || local.stdout().contains("Try: curl"));
        local
    };

    let local = start(&[]);
    assert_eq!(local.port(), port);
    let short = local.register("alice");
    assert_eq!(
        (short.outcome(), short.json()["data"].clone()),
        (
            (422, 42201),
            json!({ "errors": [{ "field": "password", "message": "must have at least 30 characters" }] })
        )
    );
    let password = format!("{PASSWORD}, and more of it");
    let alice = json!({ "userid": "alice", "password": password });
    assert_eq!(local.post("/user/register", &alice).outcome(), (200, 1));
    let login = local.post("/auth/login", &alice);
    assert_eq!(login.json()["data"]["expires_in"], 420);
    let token = login.token();
    local.stop();

    // An empty variable counts as absent.
    let local = start(&[
        ("PORT", "0"),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "11"),
        ("PASSWORD_MIN_LENGTH", "8"),
        ("DATABASE_URL", ""),
    ]);
    assert_ne!(local.port(), port);
    assert_eq!(local.register("bob").outcome(), (200, 1));
    assert_eq!(local.log_in("bob").json()["data"]["expires_in"], 660);
    // The key in the file is used both times.
    assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));
    assert!(!exists(&project.directory.join(".local")));
    assert!(!exists(&folder.join(".local")));
}

#[test]
fn the_port_can_be_set() {
    let project = Project::new();
    let database = Database::new();
    let port = free_port();
    let local = project.start(&[("PORT", &port.to_string()), ("DATABASE_URL", &database.url)]);
    assert_eq!(local.port(), port);
    assert_eq!(local.send("GET", "/health", &[], "").outcome(), (200, 1));

    // A second instance on any other port.
    let other = project.start(&[("PORT", "0"), ("DATABASE_URL", &database.url)]);
    assert_ne!(other.port(), port);
    assert_eq!(other.send("GET", "/health", &[], "").outcome(), (200, 1));
}
