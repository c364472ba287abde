//! What survives the end of `local` or of its database.

use std::cell::RefCell;
use std::fs;

use serde_json::{Value, json};

use crate::project::{Local, Project, eventually, signal};

/// The account in a response.
fn user_info(answer: &crate::project::Answer) -> Value {
    answer.json()["data"]["user_info"].clone()
}

#[test]
fn a_session_over_tcp_that_survives_a_restart() {
    let project = Project::new();
    let local = project.start(&[("PORT", "0")]);
    let port = local.port();
    let registered = local.register("Alice");
    assert_eq!(registered.outcome(), (200, 1));
    let alice = user_info(&registered);
    assert_eq!(alice["userid"], "alice");
    let first = local.log_in("alice");
    assert_eq!((first.outcome(), user_info(&first)), ((200, 1), alice.clone()));
    let first = first.token();
    let second = local.log_in("ALICE").token();
    let me = local.with_token("GET", "/auth/me", &first);
    assert_eq!((me.outcome(), user_info(&me)), ((200, 1), alice.clone()));
    let logout = local.with_token("POST", "/auth/logout", &first);
    assert_eq!(
        (logout.outcome(), &logout.json()["data"]),
        ((200, 1), &Value::Null)
    );
    assert_eq!(
        local.with_token("GET", "/auth/me", &first).outcome(),
        (401, 40103)
    );

    // The banner.
    let stdout = local.stdout();
    let lines: Vec<&str> = stdout.lines().collect();
    let database = lines
        .get(1)
        .and_then(|line| line.strip_prefix("Database: embedded PostgreSQL at 127.0.0.1:"));
    let database = database.unwrap_or_else(|| panic!("{stdout}"));
    assert!(
        database
            .strip_suffix("/people")
            .is_some_and(|port| port.parse::<u16>().is_ok()),
        "{stdout}"
    );
    assert_eq!(
        lines,
        [
            format!("Listening on http://127.0.0.1:{port}"),
            format!("Database: embedded PostgreSQL at 127.0.0.1:{database}"),
            format!(
                "Data directory: {} (kept between runs)",
                project.data_directory().display()
            ),
            format!(
                "In a browser: http://127.0.0.1:{port} (example client), http://127.0.0.1:{port}/docs (API documentation)"
            ),
            format!(
                "Try: curl -s -w '\\n' http://127.0.0.1:{port}/user/register -H 'content-type: application/json' \
                 -d '{{\"userid\":\"alice\",\"password\":\"correct horse battery staple\"}}'"
            ),
        ]
    );

    // SIGTERM.
    local.stop();
    assert_eq!(project.database_processes(), [""; 0]);
    assert_eq!(project.postmaster(), None);

    // The same account and token, and the same address of the database.
    let local = project.start(&[("PORT", "0")]);
    assert_eq!(
        local.stdout().lines().nth(1),
        Some(format!("Database: embedded PostgreSQL at 127.0.0.1:{database}").as_str())
    );
    assert_eq!(local.register("alice").outcome(), (409, 40901));
    assert_eq!(
        local.with_token("GET", "/auth/me", &first).outcome(),
        (401, 40103)
    );
    assert_eq!(user_info(&local.with_token("GET", "/auth/me", &second)), alice);
    assert_eq!(user_info(&local.log_in("alice")), alice);

    // Ctrl-C, which goes to the whole process group.
    signal("INT", &format!("-{}", local.id()));
    let (status, ..) = local.wait();
    assert_eq!(status, Some(0));
    assert_eq!(project.database_processes(), [""; 0]);
    assert_eq!(project.postmaster(), None);
}

#[test]
fn the_suggested_command_works_in_a_shell() {
    let project = Project::new();
    let database = crate::project::Database::new();
    let local = project.start(&[("PORT", "0"), ("DATABASE_URL", &database.url)]);
    let stdout = local.stdout();
    let line = stdout.lines().find_map(|line| line.strip_prefix("Try: "));
    // Instead of running curl, look at the arguments that a shell would pass: address, header and body.
    let output = std::process::Command::new("/bin/sh")
        .args([
            "-c",
            &format!("curl() {{ printf '%s\\n' \"$@\"; }}\n{}", line.expect("a line")),
        ])
        .output()
        .expect("/bin/sh");
    let arguments = String::from_utf8(output.stdout).expect("UTF-8");
    let arguments: Vec<&str> = arguments.lines().collect();
    let [_, _, _, address, _, header, _, body] = arguments[..] else {
        panic!("{arguments:?}")
    };
    assert_eq!(
        address,
        format!("http://127.0.0.1:{}/user/register", local.port())
    );
    let (name, value) = header.split_once(": ").expect("a header");
    assert_eq!(
        local
            .send("POST", "/user/register", &[(name, value)], body)
            .outcome(),
        (200, 1)
    );
    assert_eq!(local.log_in("alice").outcome(), (200, 1));
}

#[test]
fn when_the_program_is_killed_its_database_stops_and_loses_nothing() {
    let project = Project::new();
    let local = project.start(&[("PORT", "0")]);
    assert_eq!(local.register("alice").outcome(), (200, 1));
    let token = local.log_in("alice").token();
    signal("KILL", &local.id().to_string());
    assert_eq!(local.wait().0, None);
    eventually("its database has stopped", || {
        project.database_processes().is_empty()
    });

    let local = project.start(&[("PORT", "0")]);
    assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));
    // Again, without waiting before the next start.
    signal("KILL", &local.id().to_string());
    assert_eq!(local.wait().0, None);
    let local = project.start(&[("PORT", "0")]);
    assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));
    stop(&project, local);
}

#[test]
fn a_killed_database_is_503_until_it_is_restarted() {
    let project = Project::new();
    let local = project.start(&[("PORT", "0")]);
    assert_eq!(local.register("alice").outcome(), (200, 1));
    let token = local.log_in("alice").token();
    let killed = project.postmaster().expect("it runs");
    // It cannot be restarted until this is removed.
    let file = project.data_directory().join("postgresql.conf");
    let settings = fs::read_to_string(&file).expect("settings");
    fs::write(&file, format!("{settings}\nnonsense = 1\n")).expect("a file");
    signal("KILL", &killed.to_string());
    eventually("its processes are gone", || {
        project.database_processes().is_empty()
    });

    let unavailable = json!({
        "code": 50301,
        "message": "The service is temporarily unavailable.",
        "data": null,
    });
    for answer in [
        local.with_token("GET", "/auth/me", &token),
        local.register("bob"),
        local.log_in("alice"),
        local.log_in("nobody"),
        local.with_token("POST", "/auth/logout", &token),
    ] {
        assert_eq!((answer.status(), answer.json()), (503, unavailable.clone()));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let health = local.send("GET", "/health", &[], "");
    assert_eq!(
        (health.status(), health.json()["data"].clone()),
        (
            503,
            json!({ "status": "unavailable", "database": "down", "schema": "unknown" })
        )
    );

    let message = "local: the database is down: PostgreSQL: configuration file ";
    eventually("the reason is reported", || local.stderr().contains(message));

    // Only 503 until it serves again.
    fs::write(&file, settings).expect("a file");
    let answers = RefCell::new(Vec::new());
    eventually("it serves again", || {
        let outcome = local.with_token("GET", "/auth/me", &token).outcome();
        answers.borrow_mut().push(outcome);
        outcome == (200, 1)
    });
    let answers = answers.into_inner();
    let (_, refused) = answers.split_last().expect("an answer");
    assert!(
        refused.iter().all(|&outcome| outcome == (503, 50301)),
        "{refused:?}"
    );
    assert_ne!(project.postmaster(), Some(killed));
    assert_eq!(local.log_in("alice").outcome(), (200, 1));
    let message = "local: the database was down and has been restarted";
    // It serves a moment before this is reported.
    eventually("the restart is reported", || local.stderr().contains(message));
    assert_eq!(local.stderr().lines().filter(|line| *line == message).count(), 1);
    stop(&project, local);
}

#[test]
fn a_signal_while_the_database_is_created_stops_both() {
    let project = Project::new();
    let local = project.begin(project.command(&[("PORT", "0")]));
    // initdb is running or has just ended.
    eventually("a start", || {
        fs::read_dir(project.directory.join(".local"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("pg-"))
    });
    let (_, stderr) = local.stop();
    assert_eq!(stderr, "");
    assert_eq!(project.database_processes(), [""; 0]);
    stop(&project, project.start(&[("PORT", "0")]));
}

#[test]
fn a_second_program_names_the_process_that_uses_the_database() {
    let project = Project::new();
    let first = project.start(&[("PORT", "0")]);
    assert_eq!(first.register("alice").outcome(), (200, 1));
    let (status, _, stderr) = project.begin(project.command(&[("PORT", "0")])).wait();
    let expected = format!(
        "local: the database in {} is in use by process {}: stop that one, or set DATABASE_URL\n",
        project.directory.join(".local").display(),
        first.id()
    );
    assert_eq!((status, stderr), (Some(1), expected));
    assert_eq!(first.log_in("alice").outcome(), (200, 1));
    stop(&project, first);
    stop(&project, project.start(&[("PORT", "0")]));
}

#[track_caller]
fn stop(project: &Project, local: Local) {
    local.stop();
    assert_eq!(project.database_processes(), [""; 0]);
}
