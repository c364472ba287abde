//! Tries again what fails temporarily.

use std::collections::VecDeque;
use std::time::Duration;

use aws_sdk_sesv2::config::http::HttpResponse;
use aws_sdk_sesv2::error::{ProvideErrorMetadata, SdkError};
use tokio::time::{Instant, sleep};

/// Failures in a row after which it gives up.
const MAX_FAILURES: u32 = 4;

/// Pause after the first failure; after each further one it is twice as long. Together they are longer than a second,
/// since SES's limit is a number of mails per second: 1 in a new account.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What became of one item.
pub(super) enum Outcome {
    /// Accepted.
    Delivered,
    /// Refused for good.
    Dropped,
    /// Another attempt may succeed. With the reason.
    Later(String),
    /// Nothing of this kind can be delivered at present, which is not the fault of this item. With the reason.
    Stop(String),
}

/// What became of several items.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) delivered: usize,
    pub(super) dropped: usize,
    pub(super) left: usize,
    /// Why something is left: the last problem.
    pub(super) problem: Option<String>,
}

/// Delivers items, `size` at a time. What fails temporarily goes to the end of the queue, so it does not hold up
/// others. Gives up after some failures in a row, when nothing can be delivered, and at the time `until`.
pub(super) async fn deliver<T>(
    items: Vec<T>,
    size: usize,
    until: Instant,
    attempt: impl AsyncFn(&[T]) -> Vec<Outcome>,
) -> Tally {
    let mut queue = VecDeque::from(items);
    let mut tally = Tally::default();
    let mut failures = 0;
    let mut stop = false;
    while !queue.is_empty() && !stop && failures < MAX_FAILURES {
        if failures > 0 {
            sleep(FIRST_PAUSE * 2_u32.pow(failures - 1)).await;
        }
        if Instant::now() >= until {
            tally.problem.get_or_insert_with(|| "no time left".to_owned());
            break;
        }
        let batch: Vec<T> = queue.drain(..size.min(queue.len())).collect();
        let outcomes = attempt(&batch).await;
        let settled = tally.delivered + tally.dropped;
        for (item, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered => tally.delivered += 1,
                Outcome::Dropped => tally.dropped += 1,
                Outcome::Later(problem) => {
                    tally.problem = Some(problem);
                    queue.push_back(item);
                }
                Outcome::Stop(problem) => {
                    tally.problem = Some(problem);
                    queue.push_back(item);
                    stop = true;
                }
            }
        }
        let progress = tally.delivered + tally.dropped > settled;
        failures = if progress { 0 } else { failures + 1 };
    }
    tally.left = queue.len();
    tally
}

/// Why AWS did not do what was asked.
pub(super) struct Problem {
    /// AWS's code, or else what happened. Never the message, which quotes addresses.
    pub(super) code: String,
    /// Another attempt may succeed: the call was throttled, AWS failed, or it was not reached.
    pub(super) temporary: bool,
}

impl Problem {
    pub(super) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        let throttled = code
            .as_deref()
            .is_some_and(|code| code.contains("Throttl") || code.starts_with("TooManyRequests"));
        Self {
            temporary: throttled
                || code.is_none()
                || status.is_none_or(|status| status == 429 || status >= 500),
            code: code.unwrap_or_else(|| {
                status.map_or_else(|| "not reached".to_owned(), |status| format!("status {status}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// Delivers numbers one by one for `seconds`; `attempt` answers for each. What was attempted, and what became of it
    /// all.
    async fn run(numbers: &[u32], seconds: u64, attempt: impl AsyncFn(u32) -> Outcome) -> (Vec<u32>, Tally) {
        let attempted = RefCell::new(Vec::new());
        let until = Instant::now() + Duration::from_secs(seconds);
        let tally = deliver(numbers.to_vec(), 1, until, async |batch: &[u32]| {
            attempted.borrow_mut().push(batch[0]);
            vec![attempt(batch[0]).await]
        })
        .await;
        (attempted.into_inner(), tally)
    }

    fn later() -> Outcome {
        Outcome::Later("later".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn at_one_mail_a_second_a_hundred_are_sent_in_their_time() {
        let free = RefCell::new(Instant::now());
        let numbers: Vec<u32> = (0..100).collect();
        let (attempted, tally) = run(&numbers, 144, async |_| {
            if Instant::now() < *free.borrow() {
                return later();
            }
            *free.borrow_mut() = Instant::now() + Duration::from_secs(1);
            Outcome::Delivered
        })
        .await;
        assert_eq!((tally.delivered, tally.left), (100, 0));
        assert!(attempted.len() <= 500, "{}", attempted.len());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_always_fails_holds_up_no_other() {
        let (attempted, tally) = run(&[1, 2, 3], DAY.as_secs(), async |number| match number {
            1 => later(),
            _ => Outcome::Delivered,
        })
        .await;
        assert_eq!(attempted, [1, 2, 3, 1, 1, 1, 1]);
        assert_eq!((tally.delivered, tally.left), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_begins_after_its_time_and_the_reason_of_the_last_failure_is_kept() {
        let slow = async |number| {
            sleep(Duration::from_secs(10)).await;
            if number == 2 { later() } else { Outcome::Delivered }
        };
        let (attempted, tally) = run(&[1, 2, 3, 4, 5], 25, slow).await;
        assert_eq!(attempted, [1, 2, 3]);
        assert_eq!((tally.delivered, tally.left), (2, 3));
        assert_eq!(tally.problem.as_deref(), Some("later"));
        let (attempted, tally) = run(&[1], 0, slow).await;
        assert_eq!(attempted, [0; 0]);
        assert_eq!((tally.left, tally.problem.as_deref()), (1, Some("no time left")));
    }
}
