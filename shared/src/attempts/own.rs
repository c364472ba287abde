//! What one instance does about its own attempts: it lets few be in flight at once, and remembers which have failed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Attempt, LoginCounts, Reservation};

/// Attempts of one instance that are in flight at once: half as many as have a place in the smallest count, so that the
/// others wait for their turn here rather than for a place. A deployed instance has one request at a time.
const AT_ONCE: usize = 5;
/// Longest that an attempt waits for its turn; then it goes on all the same.
const MAX_QUEUEING: Duration = Duration::from_secs(2);
/// Longest that an attempt waits for those in flight to leave it a place.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Between two looks for a place: about as long as an attempt takes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Longest that an attempt is in flight; `people.reserve_attempt` takes those that are older for failed.
const IN_FLIGHT: TimeDelta = TimeDelta::seconds(10);
/// Failures that an instance remembers. What it forgets too early is taken to be in flight for the rest of its 10 s.
const REMEMBERED: usize = 256;

/// What one instance knows of its own attempts to log in, and the database does not.
pub struct OwnAttempts {
    turns: Semaphore,
    failed: Mutex<VecDeque<Reservation>>,
}

impl Default for OwnAttempts {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            failed: Mutex::default(),
        }
    }
}

impl OwnAttempts {
    /// Waits for a turn, to be kept until the password is verified. `None` when that would take too long: a turn spares
    /// the others a wait and protects nothing.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(MAX_QUEUEING, self.turns.acquire()).await;
        turn.ok()?.ok()
    }

    /// Has `attempt` count an attempt; it is given the attempts that are known here to have failed. While others in
    /// flight occupy the places, it is asked again: most of them leave theirs in a moment.
    ///
    /// # Errors
    /// Those of `attempt`.
    pub async fn reserve<'a, E>(
        &self,
        counts: &LoginCounts,
        attempt: impl Fn(Vec<DateTime<Utc>>) -> BoxFuture<'a, Result<Attempt, E>>,
    ) -> Result<Attempt, E> {
        let mut waited = Duration::ZERO;
        loop {
            let attempt = attempt(self.failed_among(counts)).await?;
            if !matches!(attempt, Attempt::Busy { .. }) || waited >= MAX_WAIT {
                return Ok(attempt);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            waited += POLL_INTERVAL;
        }
    }

    /// Remembers that an attempt failed. To tell the database would be another round trip; the next attempt on one of
    /// its counts does.
    pub fn note_failure(&self, reservation: Reservation) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let over = reservation.reserved_at - IN_FLIGHT;
        while failed.len() >= REMEMBERED || failed.front().is_some_and(|first| first.reserved_at < over) {
            failed.pop_front();
        }
        failed.push_back(reservation);
    }

    /// When those were reserved that failed lately on any of `counts`.
    fn failed_among(&self, counts: &LoginCounts) -> Vec<DateTime<Utc>> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed
            .iter()
            .filter(|failed| failed.counts.shares_a_count_with(counts))
            .map(|failed| failed.reserved_at)
            .collect()
    }
}
