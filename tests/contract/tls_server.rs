//! A server with TLS and SCRAM, and its certificate authority.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use local::postgres::Server;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use shared::database::migrate;
use uuid::Uuid;

use crate::harness::Database;

/// A server with a certificate for the name `localhost` (not for its address), of an authority that nobody knows.
pub struct TlsServer {
    /// Without TLS.
    url: String,
    /// The certificate of its authority.
    pub authority: PathBuf,
    /// That of another authority.
    pub stranger: PathBuf,
}

pub static SERVER: LazyLock<TlsServer> = LazyLock::new(|| {
    let mut server = Server::throwaway().expect("a throw-away PostgreSQL");
    let data = server.data_directory().to_owned();
    let issuer = authority(&data.join("authority.pem"));
    authority(&data.join("stranger.pem"));
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .and_then(|parameters| parameters.signed_by(&key, &issuer))
        .expect("a certificate");
    write(&data.join("server.crt"), &certificate.pem());
    write(&data.join("server.key"), &key.serialize_pem());
    let mut settings = fs::OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .expect("its settings");
    settings.write_all(b"ssl = on\n").expect("they are written");
    // As a deployed server, other than a throw-away one.
    let rules = data.join("pg_hba.conf");
    let text = fs::read_to_string(&rules).expect("its rules");
    fs::write(&rules, text.replace("password", "scram-sha-256")).expect("they are written");
    server.end("INT").expect("it ends");
    server.restart_if_down().expect("it starts again");
    let tls = TlsServer {
        url: server.url().to_owned(),
        authority: data.join("authority.pem"),
        stranger: data.join("stranger.pem"),
    };
    // It ends with this process, for whatever reason.
    std::mem::forget(server);
    tls
});

/// Creates an authority and writes its certificate to a file.
fn authority(file: &Path) -> Issuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    write(file, &certificate.pem());
    Issuer::new(parameters, key)
}

/// Writes a file that only the server's user can read, which it requires for its key.
fn write(file: &Path, text: &str) {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("a file");
    let directory = fs::metadata(file.parent().expect("a directory")).expect("a directory");
    chown(file, Some(directory.uid()), Some(directory.gid())).expect("ours to give");
}

/// A migrated database on the server with TLS.
pub async fn database() -> Database {
    // Blocks while it starts.
    let server = tokio::task::spawn_blocking(|| &*SERVER).await.expect("a server");
    let name = format!("people_test_{}", Uuid::new_v4().simple());
    let maintenance = Database {
        url: server.url.clone(),
    };
    maintenance.execute(&format!("CREATE DATABASE {name}")).await;
    let database = Database {
        url: server.url.replace("/people?", &format!("/{name}?")),
    };
    migrate(&database.options()).await.expect("migrations run");
    database
}

/// The same database over TLS, name and certificate verified.
pub fn url(database: &Database) -> String {
    let url = database.url.replace("@127.0.0.1:", "@localhost:");
    let verified = format!("sslmode=verify-full&sslrootcert={}", SERVER.authority.display());
    url.replace("sslmode=disable", &verified)
}
