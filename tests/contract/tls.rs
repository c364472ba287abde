//! The connection to the database is encrypted and verified, unless the URL says otherwise.

use shared::database::migrate;
use uuid::Uuid;
use x509_parser::pem::Pem;
use x509_parser::time::ASN1Time;

use crate::harness::{Database, PASSWORD, Service};
use crate::health::assert_down;
use crate::tls_server::{self, SERVER, database};

/// The service on that database by way of `host` and with these parameters in the URL.
fn service(database: &Database, host: &str, parameters: &str) -> Service {
    let url = database.url.replace("@127.0.0.1:", &format!("@{host}:"));
    let url = url.replace("?sslmode=disable", parameters);
    assert!(url.contains(host) && url.ends_with(parameters), "{url}");
    Service::on(database.clone(), &[("DATABASE_URL", &url)])
}

/// Everything works, over TLS or not.
async fn assert_works(service: &Service, encrypted: bool) {
    let token = service.token_of_new_user(&Uuid::new_v4().to_string()).await;
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.get("/health", "").await.status, 200);
    let connections = "string_agg(DISTINCT ssl::text, ' ') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'people' AND datname = current_database()";
    let found = service.database.text(&format!("SELECT {connections}")).await;
    assert_eq!(found, Some(encrypted.to_string()));
}

/// Everything is 503.
async fn assert_refused(service: &Service) {
    let login = service.log_in("alice", PASSWORD);
    let (register, login, health) =
        tokio::join!(service.register("alice"), login, service.get("/health", ""));
    for reply in [register, login] {
        reply.assert_error(50301);
    }
    assert_down(&health);
    // No request reached the tables.
    assert_eq!(service.database.count(r#"people."user""#).await, 0);
}

#[tokio::test]
async fn a_url_that_does_not_mention_tls_refuses_an_unknown_authority() {
    let database = database().await;
    assert_refused(&service(&database, "localhost", "")).await;
    assert_refused(&service(&database, "localhost", "?application_name=sslmode")).await;
}

#[tokio::test]
async fn a_url_that_does_not_mention_tls_refuses_a_server_without_it() {
    let database = Database::migrated().await;
    let (url, _) = database.url.split_once('?').unwrap_or((&database.url, ""));
    let plain = database
        .text("SELECT setting FROM pg_settings WHERE name = 'ssl'")
        .await;
    assert_eq!(plain.as_deref(), Some("off"), "the server of the tests has TLS");
    let service = Service::on(database.clone(), &[("DATABASE_URL", url)]);
    assert_refused(&service).await;
}

#[tokio::test]
async fn the_right_authority_and_name_are_accepted() {
    let database = database().await;
    let service = Service::on(database.clone(), &[("DATABASE_URL", &tls_server::url(&database))]);
    assert_works(&service, true).await;
}

#[tokio::test]
async fn an_authority_is_sufficient_for_verification() {
    let database = database().await;
    let authority = SERVER.authority.display();
    let only_authority = format!("?sslrootcert={authority}");
    assert_works(&service(&database, "localhost", &only_authority), true).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let database = database().await;
    let authority = SERVER.authority.display();
    for parameters in [
        format!("?sslmode=verify-full&sslrootcert={authority}"),
        format!("?sslrootcert={authority}"),
    ] {
        assert_refused(&service(&database, "127.0.0.1", &parameters)).await;
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let database = database().await;
    let stranger = SERVER.stranger.display();
    for mode in ["verify-full", "verify-ca"] {
        let parameters = format!("?sslmode={mode}&sslrootcert={stranger}");
        assert_refused(&service(&database, "localhost", &parameters)).await;
    }
    assert_refused(&service(
        &database,
        "localhost",
        "?sslmode=verify-full&sslrootcert=/nowhere.pem",
    ))
    .await;
}

#[tokio::test]
async fn a_url_can_require_less() {
    let [plain, encrypted] = [database().await, database().await];
    assert_works(&service(&plain, "127.0.0.1", "?sslmode=disable"), false).await;
    assert_works(&service(&encrypted, "127.0.0.1", "?sslmode=require"), true).await;
}

#[tokio::test]
async fn migrations_verify_as_well() {
    let database = database().await;
    let (url, _) = database.url.split_once('?').expect("our own URL");
    let environment = [("DATABASE_URL", url), ("SECRET_KEY", crate::harness::SECRET_KEY)];
    let config = shared::config::Config::from_environment(&environment.into_iter().collect());
    let error = migrate(&config.expect("usable").database.options)
        .await
        .expect_err("nobody vouches for this server");
    assert_eq!(
        error.to_string(),
        "error communicating with database: invalid peer certificate: UnknownIssuer"
    );
}

/// Name and expiry of each certificate authority of Amazon RDS.
fn authorities_of_rds() -> Vec<(String, ASN1Time)> {
    Pem::iter_from_buffer(include_bytes!("../../shared/src/config/rds_ca.pem"))
        .map(|pem| {
            let pem = pem.expect("PEM");
            let certificate = pem.parse_x509().expect("a certificate");
            let name = certificate.subject().iter_common_name().next().expect("a name");
            let name = name.as_str().expect("text").to_owned();
            (name, certificate.validity().not_after)
        })
        .collect()
}

#[test]
fn every_region_of_rds_has_its_authorities() {
    let names: Vec<String> = authorities_of_rds().into_iter().map(|(name, _)| name).collect();
    for region in [
        "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2",
        "ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7",
        "ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2",
        "eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2",
        "us-gov-east-1 us-gov-west-1 us-west-1 us-west-2",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    {
        for kind in ["RSA2048", "RSA4096", "ECC384"] {
            let root = format!("Amazon RDS {region} Root CA {kind} G1");
            assert!(names.contains(&root), "{root}");
        }
    }
}

/// Fails a year before a certificate expires, so that there is time to update the bundle. Expiries that have been
/// checked are listed here.
#[test]
fn no_authority_of_rds_expires_within_a_year_except_known_ones() {
    // Intermediate ones, whose roots are in the bundle until 2062 and later: servers send the newer ones themselves.
    const KNOWN_TO_END: [&str; 4] = [
        "Amazon RDS us-gov-east-1 RSA2048 G1",
        "Amazon RDS us-gov-east-1 RSA4096 G1",
        "Amazon RDS us-gov-west-1 RSA2048 G1",
        "Amazon RDS us-gov-west-1 RSA4096 G1",
    ];
    let in_a_year = ASN1Time::now().timestamp() + 365 * 24 * 60 * 60;
    let authorities = authorities_of_rds();
    let ending: Vec<String> = authorities
        .iter()
        .filter(|(name, end)| end.timestamp() < in_a_year && !KNOWN_TO_END.contains(&&**name))
        .map(|(name, end)| format!("{name}: {end}"))
        .collect();
    assert!(ending.is_empty(), "take the newer bundle of AWS: {ending:#?}");
    for known in KNOWN_TO_END {
        assert!(authorities.iter().any(|(name, _)| name == known), "gone: {known}");
    }
}
