//! (c) Round trips and packets between an instance and its database, counted by a proxy.

use axum::http::StatusCode;

use crate::harness::{Database, PASSWORD, Service};
use crate::pgbouncer::PgBouncer;
use crate::proxy::{Link, Proxy};
use crate::report::{Against, Report};
use crate::{runtime, tls_server};

/// Every request, cold (on a new instance) and warm.
pub fn measure(report: &mut Report) {
    report.title("On the wire: round trips and packets with data, both ways, of each request");
    runtime().block_on(async {
        let database = tls_server::database().await;
        let proxy = Proxy::to(&database, Link::Up).await;
        let url = tls_server::url(&proxy.of(&database));
        count(
            report,
            "TLS",
            &database,
            &proxy,
            &[("DATABASE_URL", &url)],
            COLD_OVER_TLS,
        )
        .await;

        let database = Database::migrated().await;
        if let Some(pooler) = PgBouncer::before(&database).await {
            let pooled = Database {
                url: pooler.url.clone(),
            };
            let proxy = Proxy::to(&pooled, Link::Up).await;
            let url = proxy.of(&pooled).url;
            let settings = [("DATABASE_URL", &*url), ("DATABASE_POOLER", "transaction")];
            count(report, "PgBouncer, plain", &database, &proxy, &settings, None).await;
        }
    });
}

/// The target for `me` on a new connection with TLS and SCRAM.
const COLD_OVER_TLS: Option<f64> = Some(9.0);

/// The round trip of the TCP handshake, which the proxy does not see.
const HANDSHAKE: usize = 1;

async fn count(
    report: &mut Report,
    name: &str,
    database: &Database,
    proxy: &Proxy,
    settings: &[(&str, &str)],
    cold_target: Option<f64>,
) {
    let setup = Service::on(database.clone(), &[]);
    let token = setup.token_of_new_user("alice").await;
    let direct = name == "TLS";

    let cold = Service::on(database.clone(), settings);
    proxy.round_trips();
    proxy.packets();
    assert_eq!(cold.get("/auth/me", &token).await.status, StatusCode::OK);
    let against = cold_target.map_or(Against::Nothing, Against::Most);
    let (round_trips, packets) = (proxy.round_trips(), proxy.packets());
    report.add(
        &format!("{name}: cold me"),
        round(round_trips + HANDSHAKE),
        "round trips",
        &against,
    );
    report.add(
        &format!("{name}: cold me, packets"),
        round(packets),
        "packets",
        &Against::Nothing,
    );

    let ahead = Service::on(database.clone(), settings);
    ahead.connect_ahead().await;
    proxy.round_trips();
    proxy.packets();
    assert_eq!(ahead.get("/auth/me", &token).await.status, StatusCode::OK);
    let round_trips = proxy.round_trips();
    report.add(
        &format!("{name}: first me, connected ahead"),
        round(round_trips),
        "round trips",
        &Against::Nothing,
    );

    // Each statement has been prepared.
    let warm = Service::on(database.clone(), settings);
    let token = warm.token_of_new_user("bob").await;
    warm.get("/auth/me", &token).await;
    warm.get("/health", "").await;
    assert_eq!(warm.log_out(&token).await.status, StatusCode::OK);
    let token = warm.log_in("bob", PASSWORD).await.access_token();
    let mut counted = Vec::new();
    proxy.round_trips();
    proxy.packets();
    let mut count = |what: &'static str, target: f64, status: StatusCode, expected: u16| {
        assert_eq!(status, expected, "{what}");
        counted.push((what, target, (proxy.round_trips(), proxy.packets())));
    };
    count("me", 1.0, warm.get("/auth/me", &token).await.status, 200);
    count("health", 1.0, warm.get("/health", "").await.status, 200);
    count("login", 2.0, warm.log_in("bob", PASSWORD).await.status, 200);
    count("failed login", 1.0, warm.log_in("bob", "wrong").await.status, 401);
    count("register", 2.0, warm.register("carol").await.status, 200);
    count("logout", 1.0, warm.log_out(&token).await.status, 200);
    for (what, target, (round_trips, packets)) in counted {
        let against = if direct {
            Against::Most(target)
        } else {
            Against::Nothing
        };
        report.add(
            &format!("{name}: warm {what}"),
            round(round_trips),
            "round trips",
            &against,
        );
        report.add(
            &format!("{name}: warm {what}, packets"),
            round(packets),
            "packets",
            &Against::Nothing,
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few")]
fn round(count: usize) -> f64 {
    count as f64
}
