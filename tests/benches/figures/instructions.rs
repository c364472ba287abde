//! (d) Instructions of a handler without hash and database: those of a warm request in this process, minus those of its
//! statements and hash alone, with the smallest parameters. Counted by valgrind, so reproducible.

use std::env;
use std::process::Command;

use crate::bench::{Bench, USERID, smallest_hash};
use crate::instance::event;
use crate::report::{Against, Report};
use crate::runtime;

/// Argument that makes this program run a single case.
pub const FLAG: &str = "--case";

/// Requests of the smaller and of the larger run. The difference does not include initialization.
const FEW: usize = 20;
const MANY: usize = 120;

/// Counts instructions, if valgrind is installed.
pub fn measure(report: &mut Report) {
    report.title("Instructions in this process for each warm request; the database's own are not in it");
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("not counted: valgrind is not installed");
        return;
    }
    for (name, statements) in [
        ("me", "me"),
        ("me, event to answer", "me, statement"),
        ("authorizer", "me, statement"),
        ("logout", "logout"),
        ("login", "login"),
        ("register", "register"),
    ] {
        let handler = of_one(name);
        let bare = of_one(&format!("bare {statements}"));
        let baseline = Against::Baseline {
            what: "statements, hash",
            value: bare,
            target: None,
        };
        report.add(&format!("{name}: all"), handler, "k", &baseline);
        report.add(
            &format!("{name}: the handler itself"),
            handler - bare,
            "k",
            &if name.starts_with("me") {
                Against::Most(80.0)
            } else {
                Against::Nothing
            },
        );
    }
}

/// Thousands of instructions of one request.
fn of_one(case: &str) -> f64 {
    let counted = [FEW, MANY].map(|requests| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe().expect("this program"))
            .args([FLAG, case, &requests.to_string()])
            .output()
            .expect("valgrind runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        text.lines()
            .find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok())
            .unwrap_or_else(|| panic!("no count in {text}"))
    });
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let requests = (MANY - FEW) as f64;
    (counted[1] - counted[0]) / requests / 1e3
}

/// Runs a case, under valgrind.
pub fn run_case(arguments: &[String]) {
    let [case, requests] = arguments else {
        panic!("a case and a number of requests")
    };
    let requests: usize = requests.parse().expect("a number");
    let _log = tracing::subscriber::set_default(shared::telemetry::subscriber(std::io::sink));
    runtime().block_on(async {
        let mut bench = Bench::new(&[("ARGON2_MEMORY_KIB", "8"), ("ARGON2_ITERATIONS", "1")]).await;
        let token = bench.live_token().await;
        let verified = bench.verified(&token);
        let [of_me, of_authorizer] = ["me", "authorizer-http"].map(|name| event(name, &token, ""));
        for round in 0..requests {
            let userid = format!("pupil-{round:04}");
            match case.as_str() {
                "me" => {
                    bench
                        .answer(&functions::me::ROUTES[0], Bench::request("me", &token, ""))
                        .await;
                }
                "me, event to answer" => {
                    bench.invoke_me(&of_me).await;
                }
                "authorizer" => {
                    bench.invoke_authorizer(&of_authorizer).await;
                }
                "bare me, statement" => bench.bare_me(&verified).await,
                "bare me" => {
                    Bench::request("me", &token, "");
                    bench.bare_me(&verified).await;
                }
                "logout" => {
                    let token = bench.live_token().await;
                    bench.verified(&token);
                    bench
                        .answer(
                            &functions::logout::ROUTES[0],
                            Bench::request("logout", &token, ""),
                        )
                        .await;
                }
                "bare logout" => {
                    let token = bench.live_token().await;
                    Bench::request("logout", &token, "");
                    let verified = bench.verified(&token);
                    bench.bare_logout(&verified).await;
                }
                "login" => {
                    bench
                        .answer(&functions::login::ROUTES[0], Bench::request("login", "", USERID))
                        .await;
                }
                "bare login" => {
                    let request = Bench::request("login", "", USERID);
                    bench.bare_login(&request).await;
                    smallest_hash();
                }
                "register" => {
                    bench
                        .answer(
                            &functions::register::ROUTES[0],
                            Bench::request("register", "", &userid),
                        )
                        .await;
                }
                "bare register" => {
                    let request = Bench::request("register", "", &userid);
                    bench.bare_register(&request, &userid).await;
                    smallest_hash();
                }
                _ => panic!("no such case: {case}"),
            }
        }
    });
}
