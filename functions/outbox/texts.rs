//! The mails: plain text in English, with nothing in them that a client chose, except a userid that cannot be taken for
//! anything else.

use shared::config::LinkPages;
use shared::links::{LinkKeys, Purpose};
use shared::outbox::{Kind, Message};

use super::Mail;

const IGNORE: &str = "If you did not ask for this, ignore this mail: nothing has changed.";

/// The mail of `message`; none if nobody is to get one.
pub fn mail(message: &Message, keys: &LinkKeys, pages: &LinkPages) -> Option<Mail> {
    let to = message.recipient.clone()?;
    let account = account(message.userid.as_deref());
    let password_link = |purpose| {
        let state = message.state.as_ref()?;
        let token = keys.password_token(purpose, state, message.asked_at);
        Some(link(&pages.reset, &token))
    };
    let (subject, paragraphs) = match message.kind {
        Kind::Reset => (
            "Set a new password",
            vec![
                format!(
                    "Somebody asked for a new password for {account}. This link sets one; it is valid for one hour:"
                ),
                password_link(Purpose::Reset)?,
                IGNORE.to_owned(),
            ],
        ),
        Kind::Invite => (
            "Your new account",
            vec![
                format!(
                    "You have been invited: follow this link to set the password of {account}. It is valid for 7 days:"
                ),
                password_link(Purpose::Invite)?,
                "If you do not want it, ignore this mail.".to_owned(),
            ],
        ),
        Kind::Email => {
            let token = keys.email_token(message.state.as_ref()?, &to, message.asked_at);
            (
                "Confirm your e-mail address",
                vec![
                    format!(
                        "Follow this link to make this the address of {account}; it is valid for 24 hours:"
                    ),
                    link(&pages.email, &token),
                    IGNORE.to_owned(),
                ],
            )
        }
        Kind::PasswordChanged => (
            "Your password was changed",
            vec![
                format!("The password of {account} was changed, and its other sessions have ended."),
                "If this was not you, set a new one: ask for a mail with \"I forgot my password\"."
                    .to_owned(),
            ],
        ),
        Kind::EmailChanged => (
            "Your e-mail address was changed",
            vec![
                format!("This is no longer the address of {account}: it has another one now."),
                "If this was not you, ask the support of the application.".to_owned(),
            ],
        ),
        Kind::UserDeleted => (
            "Your account was deleted",
            vec![
                "The account with this address was deleted, with all its data here.".to_owned(),
                "If this was not you, ask the support of the application.".to_owned(),
            ],
        ),
    };
    Some(Mail {
        to,
        subject,
        text: paragraphs.join("\n\n") + "\n",
    })
}

/// How the account is named. Other userids could be read as a sentence or opened as a link.
fn account(userid: Option<&str>) -> String {
    match userid {
        Some(userid)
            if userid
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) =>
        {
            format!("the account \"{userid}\"")
        }
        _ => "your account".to_owned(),
    }
}

fn link(page: &str, token: &str) -> String {
    format!("{page}#token={token}")
}
