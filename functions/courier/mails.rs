//! Mails, through SES.

use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::Builder;
use aws_sdk_sesv2::config::retry::RetryConfig;
use aws_sdk_sesv2::error::{BuildError, ProvideErrorMetadata as _};
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message};
use serde::Deserialize;
use shared::aws::SdkConfig;
use shared::users::is_plain_address;

use super::delivery::{Outcome, Problem};

/// A mail, in plain text.
#[derive(Deserialize)]
pub(super) struct Mail {
    to: String,
    subject: String,
    text: String,
}

/// SES, and the sender of all mails.
pub(super) struct Ses {
    client: Client,
    /// An address, or a name with an address in angle brackets.
    sender: String,
}

impl Ses {
    pub(super) fn new(sdk: &SdkConfig, sender: &str) -> Self {
        // `deliver` tries again.
        let config = Builder::from(sdk).retry_config(RetryConfig::disabled());
        Self {
            client: Client::from_conf(config.build()),
            sender: sender.to_owned(),
        }
    }

    /// Sends mails, one call each.
    pub(super) async fn send(&self, mails: &[Mail]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(mails.len());
        for mail in mails {
            outcomes.push(self.send_one(mail).await);
        }
        outcomes
    }

    async fn send_one(&self, mail: &Mail) -> Outcome {
        if !is_plain_address(&mail.to) {
            return dropped("not a plain address");
        }
        let Ok(content) = content(mail) else {
            return dropped("an incomplete mail");
        };
        let destination = Destination::builder().to_addresses(&mail.to).build();
        let call = self.client.send_email().from_email_address(&self.sender);
        let Err(error) = call.destination(destination).content(content).send().await else {
            return Outcome::Delivered;
        };
        let Problem { code, temporary } = Problem::of(&error);
        // While the sender's own address or domain is not verified, SES rejects every mail, as it does one to a
        // recipient that it may not write to. Only its message tells them apart.
        let own = error
            .message()
            .is_some_and(|text| text.contains(address_of(&self.sender)));
        if temporary {
            Outcome::Later(format!("SES: {code}"))
        } else if matches!(&*code, "MessageRejected" | "BadRequestException") && !own {
            dropped(&format!("SES: {code}"))
        } else {
            Outcome::Stop(format!("SES: {code}"))
        }
    }
}

/// A mail is given up, which nobody but the log is told.
fn dropped(reason: &str) -> Outcome {
    tracing::error!(error = reason, "mail dropped");
    Outcome::Dropped
}

fn content(mail: &Mail) -> Result<EmailContent, BuildError> {
    let utf8 = |text: &str| Content::builder().data(text).charset("UTF-8").build();
    let body = Body::builder().text(utf8(&mail.text)?).build();
    let message = Message::builder()
        .subject(utf8(&mail.subject)?)
        .body(body)
        .build();
    Ok(EmailContent::builder().simple(message).build())
}

fn address_of(sender: &str) -> &str {
    sender
        .rsplit_once('<')
        .map_or(sender, |(_, address)| address.trim_end_matches('>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_one_address_without_a_name() {
        for plain in [
            "alice@example.com",
            "alice+people@example.com",
            "o'hara@example.com",
            "爱丽丝@例子.中国",
        ] {
            assert!(is_plain_address(plain), "{plain}");
        }
        for other in [
            "Alice <alice@example.com>",
            "Alice<alice@example.com>",
            "alice@example.com,bob@example.com",
            "alice@example.com;bob@example.com",
            "team:alice@example.com;",
            "\"a\"@example.com",
            "alice@[192.0.2.1]",
            "alice(a)@example.com",
            "alice@example.com\r\nbcc:bob@example.com",
            "alice @example.com",
        ] {
            assert!(!is_plain_address(other), "{other}");
        }
    }

    #[test]
    fn the_address_of_a_sender_is_what_is_in_the_brackets() {
        assert_eq!(address_of("people@example.com"), "people@example.com");
        assert_eq!(address_of("People <people@example.com>"), "people@example.com");
    }
}
