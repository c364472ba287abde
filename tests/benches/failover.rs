//! `cargo bench --bench failover`: how the service goes through outages of its database, with 16 clients that check
//! what they are told. The same outages as in the test `failover`, but as long as in reality: seven minutes in all.
//! Writes `failover.json` and `failover.svg` to `docs/performance`; after `--`, `--quick` takes a fifth of the time and
//! writes to `target/performance`. Fails if anything acknowledged is lost, or an answer is no row of the contract;
//! asserts nothing about times.

#[path = "../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;
#[path = "../contract/journal.rs"]
mod journal;
#[path = "../contract/outages.rs"]
mod outages;
#[path = "../contract/proxy.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod proxy;
#[path = "support/timeline.rs"]
mod timeline;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::journal::{Answer, CLIENTS};
use crate::outages::{Outage, Report};
use crate::timeline::Timeline;

/// The width of a point of the picture.
const BIN: Duration = Duration::from_millis(500);

/// Times of the outages besides the failover: that of a pause is what Aurora Serverless takes at most.
const OUTAGE: Outage = Outage {
    pause: Duration::from_millis(20),
    normal: Duration::from_secs(15),
    broken: Duration::from_secs(20),
    durable: true,
};
/// Two minutes in all.
const FAILOVER: Outage = Outage {
    normal: Duration::from_secs(30),
    broken: Duration::from_secs(20),
    ..OUTAGE
};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let divisor = if quick { 5 } else { 1 };
    let scaled = |outage: Outage| Outage {
        normal: outage.normal / divisor,
        broken: outage.broken / divisor,
        ..outage
    };
    let outage = scaled(OUTAGE);
    let mut reports = vec![
        ("a standby takes over", outages::failover(scaled(FAILOVER)).await),
        ("the database pauses", outages::pause(outage).await),
        ("packets are lost", outages::lost_packets(outage).await),
        (
            "12 connections for 64 instances",
            outages::connection_limit(outage).await,
        ),
    ];
    if let Some(report) = outages::full_disk(outage).await {
        reports.push(("the disk is full", report));
    }

    let mut results = Vec::new();
    for (name, report) in &reports {
        results.push(show(name, report));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = root.join(if quick {
        "target/performance"
    } else {
        "docs/performance"
    });
    fs::create_dir_all(&directory)?;
    let results = json!({ "clients": CLIENTS, "outages": results });
    fs::write(
        directory.join("failover.json"),
        format!("{}\n", serde_json::to_string_pretty(&results)?),
    )?;
    let timelines: Vec<_> = reports.iter().map(|(name, report)| drawn(name, report)).collect();
    timeline::save(&directory.join("failover.svg"), &timelines)?;
    let wrong = reports
        .iter()
        .map(|(_, report)| report.seen.wrong.len())
        .sum::<usize>();
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what became of an outage, and returns it as JSON.
fn show(name: &str, report: &Report) -> Value {
    let answers = &report.seen.answers;
    let unavailable = answers.iter().filter(|answer| !answer.served()).count();
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap_or_default();
    println!(
        "\n{name}: {} answers, {unavailable} of them 503, the slowest after {:.2} s; {} sessions and {} changes of a \
         password checked, {} wrong",
        answers.len(),
        slowest.as_secs_f64(),
        report.seen.sessions,
        report.seen.changes,
        report.seen.wrong.len()
    );
    for wrong in &report.seen.wrong {
        println!("  {wrong}");
    }
    let mut marks = Vec::new();
    for (number, (at, what)) in report.marks.iter().enumerate() {
        let end = report.marks.get(number + 1).map_or(Duration::MAX, |(at, _)| *at);
        let during = |answer: &&Answer| answer.sent >= *at && answer.sent + answer.took < end;
        let during: Vec<_> = answers.iter().filter(during).collect();
        let done = |answer: &Answer| seconds((answer.sent + answer.took).saturating_sub(*at));
        let first = during
            .iter()
            .filter(|answer| answer.served())
            .map(|answer| done(answer));
        let first = first.reduce(f64::min);
        // When the last client had its first answer, and the last 503.
        let all = (0..CLIENTS).map(|client| {
            let mut of = during
                .iter()
                .filter(|answer| answer.client == client && answer.served());
            of.next().map(|answer| done(answer))
        });
        let all = all.reduce(|a, b| Some(a?.max(b?))).flatten();
        let last = during
            .iter()
            .filter(|answer| !answer.served())
            .map(|answer| done(answer));
        let last = last.reduce(f64::max);
        let refused = during.iter().filter(|answer| !answer.served()).count();
        let text = |time: Option<f64>| time.map_or("–".to_owned(), |time| format!("{time:.2}"));
        println!(
            "{:>8.2} s {what:<28}{:>7} served, the first after {} s, each client after {} s; {refused} × 503, the last \
             after {} s",
            seconds(*at),
            during.len() - refused,
            text(first),
            text(all),
            text(last)
        );
        marks.push(json!({
            "at_s": seconds(*at), "what": what, "served": during.len() - refused, "unavailable": refused,
            "first_served_s": first, "each_client_served_s": all, "last_unavailable_s": last,
        }));
    }
    json!({
        "outage": name, "answers": answers.len(), "unavailable": unavailable, "slowest_s": seconds(slowest),
        "sessions_checked": report.seen.sessions, "changes_checked": report.seen.changes,
        "wrong": report.seen.wrong, "marks": marks,
    })
}

/// Seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

/// Answers a second over time.
fn drawn(name: &str, report: &Report) -> Timeline {
    let answers = &report.seen.answers;
    let end = answers
        .iter()
        .map(|answer| answer.sent + answer.took)
        .max()
        .unwrap_or_default();
    let rate = |counted: &dyn Fn(&Answer) -> bool| {
        let mut bins = vec![0.0; usize::try_from(end.as_millis() / BIN.as_millis()).unwrap_or(0) + 1];
        for answer in answers.iter().filter(|answer| counted(answer)) {
            let bin = (answer.sent + answer.took).as_millis() / BIN.as_millis();
            bins[usize::try_from(bin).unwrap_or(0)] += 1.0 / BIN.as_secs_f64();
        }
        let middle = |bin: usize| (u32::try_from(bin).map_or(0.0, f64::from) + 0.5) * BIN.as_secs_f64();
        bins.into_iter()
            .enumerate()
            .map(|(bin, rate)| (middle(bin), rate))
            .collect()
    };
    Timeline {
        title: name.to_owned(),
        x_label: "seconds",
        y_label: "answers a second",
        lines: vec![
            ("served", rate(&Answer::served)),
            ("503", rate(&|answer| !answer.served())),
        ],
        marks: report
            .marks
            .iter()
            .map(|(at, what)| (seconds(*at), (*what).to_owned()))
            .collect(),
    }
}
