//! What is to be sent, once a second: mails are printed instead, and so are events.

use std::io::{self, Write as _};
use std::time::Duration;

use functions::outbox::{Outbox, Outgoing};
use shared::database::DatabaseError;

/// Between two looks into the outbox.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints what is to be sent, for as long as it is polled.
pub async fn print_outgoing(outbox: &Outbox) {
    let mut reported = String::new();
    loop {
        match outbox.take().await {
            Ok(taken) => {
                let printed = printed(&outbox.outgoing(taken));
                // Nobody may be reading it.
                let _ = io::stdout().write_all(printed.as_bytes());
            }
            // Each request says so; what is to be sent waits in the database.
            Err(DatabaseError::Unavailable(_)) => {}
            Err(error) => {
                let message = error.to_string();
                if message != reported {
                    eprintln!("local: mails stay in the outbox: {message}");
                    reported = message;
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn printed(outgoing: &Outgoing) -> String {
    let mails = outgoing.mails.iter().map(|mail| {
        let text = mail.text.replace("\n\n", "\n\n  ");
        format!("Mail to {}: {}\n\n  {text}\n", mail.to, mail.subject)
    });
    let events = outgoing
        .events
        .iter()
        .map(|event| format!("Event {}: {}\n", event.kind, event.detail));
    mails.chain(events).collect()
}
