//! The database fails under the load of many clients: nothing that was acknowledged is lost, each answer is a row of
//! the contract, and all of them are served again. Each test goes on as soon as the clients have seen what it is about;
//! the bench `failover` takes as long as in reality, and measures.

use std::time::Duration;

use crate::outages::{self, Outage, Report};

/// No longer than it takes to be seen.
const SHORT: Outage = Outage {
    pause: Duration::from_millis(5),
    normal: Duration::ZERO,
    broken: Duration::ZERO,
    durable: false,
};

fn assert_kept(report: &Report) {
    assert_eq!(report.seen.wrong, [""; 0], "{:?}", report.marks);
    let answers = &report.seen.answers;
    assert!(answers.iter().any(|answer| !answer.served()));
    // A request that is answered later than this hangs: the limits of the product are far below.
    assert!(answers.iter().all(|answer| answer.took < Duration::from_mins(1)));
    assert!(report.seen.sessions > 0 && report.seen.changes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_standby_takes_over() {
    assert_kept(&outages::failover(SHORT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_database_pauses() {
    assert_kept(&outages::pause(SHORT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_packets_are() {
    assert_kept(&outages::lost_packets(SHORT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_there_are_too_few_connections() {
    assert_kept(&outages::connection_limit(SHORT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    if let Some(report) = outages::full_disk(SHORT).await {
        assert_kept(&report);
    }
}
