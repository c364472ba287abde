//! Secrets Manager, emulated over HTTP by `moto_server` (Python's `moto[server]`), which has to be on PATH.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::project::{Database, Project, eventually};

/// The emulator, stopped at the end of the test.
struct SecretsManager {
    child: Child,
    port: u16,
}

impl SecretsManager {
    /// `None` if the program is missing. Panics instead if `REQUIRE_TEST_TOOLS` is set, as in CI.
    fn start() -> Option<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => {
                let manager = Self { child, port };
                eventually("the emulator answers", || {
                    TcpStream::connect(("127.0.0.1", port)).is_ok()
                });
                // Its first answer takes seconds, and the timeout of the product is one.
                manager.call("ListSecrets", &json!({}));
                Some(manager)
            }
            Err(error) => {
                assert!(
                    std::env::var_os("REQUIRE_TEST_TOOLS").is_none(),
                    "moto_server: {error}"
                );
                eprintln!("not run: moto_server is not installed");
                None
            }
        }
    }

    fn call(&self, action: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             x-amz-target: secretsmanager.{action}\r\ncontent-type: application/x-amz-json-1.1\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/secretsmanager/aws4_request\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the emulator");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"))
    }

    /// Creates a secret and returns its ARN.
    fn create(&self, name: &str, value: &str) -> String {
        let answer = self.call("CreateSecret", &json!({ "Name": name, "SecretString": value }));
        answer["ARN"]
            .as_str()
            .unwrap_or_else(|| panic!("no ARN: {answer}"))
            .to_owned()
    }

    fn change(&self, arn: &str, value: &str) {
        let answer = self.call(
            "PutSecretValue",
            &json!({ "SecretId": arn, "SecretString": value }),
        );
        assert_eq!(answer["ARN"], arn, "{answer}");
    }

    /// Variables for the SDK.
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PORT", "0".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }
}

impl Drop for SecretsManager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

/// A secret as RDS writes it, for a role with this password.
fn database_secret(database: &Database, role: &str, password: &str) -> String {
    let (_, place) = database.url.split_once('@').expect("our own URL");
    let (host, rest) = place.split_once(':').expect("a port");
    let (port, rest) = rest.split_once('/').expect("a database");
    let name = rest.split('?').next().unwrap_or_default();
    json!({
        "engine": "postgres", "host": host, "port": port.parse::<u16>().expect("a port"), "dbname": name,
        "username": role, "password": password,
    })
    .to_string()
}

#[test]
fn secrets_are_read_and_a_rotated_database_password_loses_no_request() {
    let Some(manager) = SecretsManager::start() else {
        return;
    };
    let project = Project::new();
    let database = Database::new();
    let role = format!("owner_{}", uuid::Uuid::new_v4().simple());
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'first-password'"
    ));
    let arn = manager.create("database", &database_secret(&database, &role, "first-password"));
    let key_arn = manager.create(
        "key",
        "a signing key that only the secret has, of 64 characters or so",
    );
    let mut variables = manager.variables();
    variables.push(("DATABASE_SECRET_ARN", arn.clone()));
    variables.push(("SECRET_KEY_ARN", key_arn));
    // The secret contains the address, the URL the TLS mode.
    variables.push((
        "DATABASE_URL",
        "postgres://127.0.0.1/none?sslmode=disable".to_owned(),
    ));
    let local = project.start(&borrowed(&variables));
    assert_eq!(local.register("alice").outcome(), (200, 1));
    let token = local.log_in("alice").token();

    let (served, rotated) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let requests = scope.spawn(|| {
            while !rotated.load(Ordering::SeqCst) {
                assert_eq!(local.with_token("GET", "/auth/me", &token).outcome(), (200, 1));
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
        database.sql(&format!("ALTER ROLE {role} PASSWORD 'second-password'"));
        manager.change(&arn, &database_secret(&database, &role, "second-password"));
        // As in a failover; each time, the affected request is served on a new connection.
        for _ in 0..5 {
            database.sql(&format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'"
            ));
            let before = served.load(Ordering::SeqCst);
            eventually("requests are served, or one was lost", || {
                served.load(Ordering::SeqCst) > before + 3 || requests.is_finished()
            });
        }
        rotated.store(true, Ordering::SeqCst);
        requests.join().expect("no request was lost");
    });
    assert_eq!(local.log_in("alice").outcome(), (200, 1));
    for secret in ["first-password", "second-password", "a signing key"] {
        assert!(!local.stderr().contains(secret) && !local.stdout().contains(secret));
    }
}

#[test]
fn a_missing_secret_stops_the_start_and_is_named() {
    let Some(manager) = SecretsManager::start() else {
        return;
    };
    let project = Project::new();
    let mut variables = manager.variables();
    let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:none";
    variables.push(("SECRET_KEY_ARN", arn.to_owned()));
    let database = Database::new();
    variables.push(("DATABASE_URL", database.url.clone()));
    // On a busy machine, the emulator may take longer than the second that the product waits.
    let late = format!("local: Secrets Manager, {arn}: not reached");
    let mut refusals = (0..20).map(|_| project.refusal(&borrowed(&variables)));
    assert_eq!(
        refusals.find(|refusal| *refusal != late),
        Some(format!(
            "local: Secrets Manager, {arn}: ResourceNotFoundException"
        ))
    );
}
