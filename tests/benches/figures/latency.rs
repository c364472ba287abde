//! (b) Warm latency of each handler, compared with that of its statements alone and its hash alone.

use std::time::Instant;

use shared::config::PasswordConfig;
use shared::password::{Parameters, Password, Passwords};
use shared::password_policy::PasswordPolicy;

use crate::bench::{self, Bench, USERID};
use crate::harness::PASSWORD;
use crate::instance::event;
use crate::report::{Against, Report, median, quantile};
use crate::{Effort, runtime};

/// Measures on a new database. What is compared is run in turns.
pub fn measure(report: &mut Report, effort: Effort) {
    report.title("Warm latency in this process, over the bare statements and the bare hash");
    // As deployed, every line of the log is formatted, but discarded here.
    let _log = tracing::subscriber::set_default(shared::telemetry::subscriber(std::io::sink));
    runtime().block_on(async {
        let mut bench = Bench::new(&[]).await;
        me(report, effort, &mut bench).await;
        authorizer(report, effort, &mut bench).await;
        logout(report, effort, &mut bench).await;
        hash(report, effort).await;
        login(report, effort, &mut bench).await;
        register(report, effort, &mut bench).await;
    });
}

async fn me(report: &mut Report, effort: Effort, bench: &mut Bench) {
    let token = bench.live_token().await;
    let verified = bench.verified(&token);
    let (mut handler, mut bare) = (Vec::new(), Vec::new());
    for round in 0..effort.samples(6_000) {
        let request = Bench::request("me", &token, "");
        let answered = timed(bench.answer(&functions::me::ROUTES[0], request)).await;
        let bare_answered = timed(bench.bare_me(&verified)).await;
        // The first rounds are a warm-up.
        if round >= 100 {
            handler.push(answered);
            bare.push(bare_answered);
        }
    }
    let baseline = Against::Baseline {
        what: "statement",
        value: median(&mut bare),
        target: Some(1.2),
    };
    report.add("me, p50", median(&mut handler), "µs", &baseline);
    let baseline = Against::Baseline {
        what: "statement",
        value: quantile(&mut bare, 0.99),
        target: None,
    };
    report.add("me, p99", quantile(&mut handler, 0.99), "µs", &baseline);
}

/// From the text of an event to the text of the answer, which `authorizer` makes itself.
async fn authorizer(report: &mut Report, effort: Effort, bench: &mut Bench) {
    let token = bench.live_token().await;
    let [of_me, of_authorizer] = ["me", "authorizer-http"].map(|name| event(name, &token, ""));
    let (mut me, mut authorizer) = (Vec::new(), Vec::new());
    for round in 0..effort.samples(6_000) {
        let answered = timed(async {
            let answer = bench.invoke_me(&of_me).await;
            assert!(answer.starts_with(r#"{"statusCode":200"#), "{answer}");
        });
        let answered = answered.await;
        let decided = timed(async {
            let decision = bench.invoke_authorizer(&of_authorizer).await;
            assert!(decision.contains(r#""isAuthorized":true"#), "{decision}");
        });
        let decided = decided.await;
        // The first rounds warm up.
        if round >= 100 {
            me.push(answered);
            authorizer.push(decided);
        }
    }
    let baseline = Against::Baseline {
        what: "me",
        value: median(&mut me),
        target: Some(1.05),
    };
    report.add("authorizer, p50", median(&mut authorizer), "µs", &baseline);
}

async fn logout(report: &mut Report, effort: Effort, bench: &mut Bench) {
    let (mut handler, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..effort.samples(2_000) {
        let token = bench.live_token().await;
        let request = Bench::request("logout", &token, "");
        handler.push(timed(bench.answer(&functions::logout::ROUTES[0], request)).await);
        let token = bench.live_token().await;
        let verified = bench.verified(&token);
        bare.push(timed(bench.bare_logout(&verified)).await);
    }
    let baseline = Against::Baseline {
        what: "statement",
        value: median(&mut bare),
        target: None,
    };
    report.add("logout, p50", median(&mut handler), "µs", &baseline);
}

async fn hash(report: &mut Report, effort: Effort) {
    let mut memory = bench::memory();
    let parameters = Parameters {
        memory_kib: 19_456,
        iterations: 2,
        parallelism: 1,
    };
    let passwords = Passwords::new(&PasswordConfig {
        policy: PasswordPolicy::new(8, &[]),
        parameters,
    });
    let (mut documented, mut kept, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.samples(100) {
        documented.push(timed_hash(bench::documented_hash));
        kept.push(timed_hash(|| bench::hash_in(&mut memory)));
        ours.push(
            timed(async {
                let password = Password::new(PASSWORD).expect("no NUL");
                passwords.hash(password).await.expect("hashed");
            })
            .await,
        );
    }
    let baseline = Against::Baseline {
        what: "as documented",
        value: median(&mut documented),
        target: Some(0.72),
    };
    let kept = median(&mut kept);
    report.add("one hash, in a memory that is kept", kept, "µs", &baseline);
    let baseline = Against::Baseline {
        what: "hash",
        value: kept,
        target: None,
    };
    report.add(
        "the same on its own thread, as PHC string",
        median(&mut ours),
        "µs",
        &baseline,
    );
}

async fn login(report: &mut Report, effort: Effort, bench: &mut Bench) {
    let mut memory = bench::memory();
    let (mut handler, mut statements, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.samples(200) {
        let request = Bench::request("login", "", USERID);
        handler.push(timed(bench.answer(&functions::login::ROUTES[0], request)).await);
        let request = Bench::request("login", "", USERID);
        statements.push(timed(bench.bare_login(&request)).await);
        hashes.push(timed_hash(|| bench::hash_in(&mut memory)));
    }
    over_hash(report, "login", &mut handler, &mut statements, &mut hashes);
}

async fn register(report: &mut Report, effort: Effort, bench: &mut Bench) {
    let mut memory = bench::memory();
    let (mut handler, mut statements, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.samples(200) {
        // Of the same length as the userid in the event.
        let request = Bench::request("register", "", &format!("pupil-{round:04}"));
        handler.push(timed(bench.answer(&functions::register::ROUTES[0], request)).await);
        let userid = format!("bare--{round:04}");
        let request = Bench::request("register", "", &userid);
        statements.push(timed(bench.bare_register(&request, &userid)).await);
        hashes.push(timed_hash(|| bench::hash_in(&mut memory)));
    }
    over_hash(report, "register", &mut handler, &mut statements, &mut hashes);
}

fn over_hash(
    report: &mut Report,
    name: &str,
    handler: &mut [f64],
    statements: &mut [f64],
    hashes: &mut [f64],
) {
    let baseline = Against::Baseline {
        what: "hash",
        value: median(hashes),
        target: Some(1.08),
    };
    report.add(&format!("{name}, p50"), median(handler), "µs", &baseline);
    report.add(
        &format!("{name}: its two bare statements, p50"),
        median(statements),
        "µs",
        &Against::Nothing,
    );
}

async fn timed(work: impl Future<Output = ()>) -> f64 {
    let started = Instant::now();
    work.await;
    micros(started)
}

fn timed_hash(hash: impl FnOnce()) -> f64 {
    let started = Instant::now();
    hash();
    micros(started)
}

fn micros(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6
}
