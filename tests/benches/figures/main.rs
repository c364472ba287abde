//! `cargo bench --bench figures`: what a request costs, each figure with a baseline from the same run. Machines differ
//! and are noisy, so only the ratios count. Prints a table and writes `target/figures.json`. Asserts nothing.
//!
//! After `--`: names of parts (`size start latency wire instructions memory`) to run only these; `--quick` for a tenth
//! of the samples; `--compare FILE` to show the ratios of a saved `figures.json` as well.

#[path = "../../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;
#[path = "../../contract/pgbouncer.rs"]
mod pgbouncer;
#[path = "../../contract/proxy.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod proxy;
#[path = "../../contract/tls_server.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod tls_server;

mod bench;
mod instance;
mod instructions;
mod latency;
mod memory;
mod report;
mod size;
mod start;
mod wire;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use report::Report;

/// Determines the number of samples.
#[derive(Clone, Copy)]
pub struct Effort {
    quick: bool,
}

impl Effort {
    /// `full` in a full run, a tenth of it in a quick one.
    fn samples(self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }
}

fn main() {
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    // This is a child process under valgrind.
    if let Some(position) = arguments
        .iter()
        .position(|argument| argument == instructions::FLAG)
    {
        instructions::run_case(&arguments[position + 1..]);
        return;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let compared = arguments
        .iter()
        .position(|argument| argument == "--compare")
        .map(|position| arguments.get(position + 1).expect("--compare FILE"));
    let named = |part: &str| arguments.iter().any(|argument| argument == part);
    let parts = ["size", "start", "latency", "wire", "instructions", "memory"];
    let all = !parts.iter().any(|part| named(part));

    let effort = Effort { quick };
    let mut report = Report::new(compared.map(Path::new));
    for part in parts.into_iter().filter(|part| all || named(part)) {
        match part {
            "size" => size::measure(&mut report),
            "start" => start::measure(&mut report, effort),
            "latency" => latency::measure(&mut report, effort),
            "wire" => wire::measure(&mut report),
            "instructions" => instructions::measure(&mut report),
            _ => memory::measure(&mut report, effort),
        }
    }
    report.write(&target().join("figures.json"));
}

/// The workspace's directory.
fn root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    workspace.expect("tests/benches is in it").to_owned()
}

/// Where cargo builds.
fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A release binary.
fn binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Builds `hello` and these functions, each in the directory of its package, like a deployment, so that features
/// required by other packages are not enabled.
fn build(functions: &[&str]) {
    for (package, names) in [("tests/benches/hello", &["hello"][..]), ("functions", functions)] {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--release"])
            .args(names.iter().flat_map(|name| ["--bin", name]))
            .current_dir(root().join(package))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "cargo build --release in {package}");
    }
}

/// A runtime like that of a deployed function.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
