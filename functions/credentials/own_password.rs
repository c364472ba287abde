//! Confirmation of the password by a logged-in user.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::attempts::{self, LoginCounts, Reservation};
use shared::auth::{admitted, not_live, verified_token};
use shared::error::{Error, FieldError};
use shared::http;
use shared::password::{Password, Verdict};
use shared::telemetry::SecurityEvent;
use shared::token::VerifiedToken;
use shared::users::{Credentials, OwnChange, User, UserId};
use shared::validation::ValidationError;
use uuid::Uuid;

/// A user with a live session who has confirmed the password.
pub struct Owner {
    pub token: VerifiedToken,
    pub user: User,
    /// The version of that password.
    pub password_version: i32,
    /// To be given back by the statement that makes the change.
    pub reservation: Reservation,
    /// Makes the event that is logged for a wrong password.
    wrong: fn(Uuid) -> SecurityEvent,
}

impl Owner {
    /// Verifies the session of `request` and `password`, which counts as an attempt to log in. `wrong` makes the event
    /// that is logged for a wrong one.
    ///
    /// # Errors
    /// 40102, 40103, 40301, 42901, 50001, 50301.
    pub async fn verify(
        app: &App,
        request: &Request,
        password: Password,
        now: DateTime<Utc>,
        wrong: fn(Uuid) -> SecurityEvent,
    ) -> Result<Self, Error> {
        let token = verified_token(&app.keys, request.headers(), now)?;
        let turn = app.attempts.turn().await;
        let (reservation, found) = reserve(app, request, &token).await?;
        let Credentials {
            user,
            password_hash,
            password_version,
            ..
        } = found;
        let verdict = app.passwords.verify(password, password_hash, Vec::new()).await?;
        drop(turn);
        match verdict {
            Verdict::Right { .. } => Ok(Self {
                token,
                user,
                password_version,
                reservation,
                wrong,
            }),
            Verdict::Wrong => {
                app.attempts.note_failure(reservation);
                Err(Error::WrongOwnPassword(wrong(user.user_id)))
            }
        }
    }

    /// The error for a refused new value. The password was right, so the attempt is given back and does not count.
    pub async fn refuse(&self, app: &App, field: &'static str, message: ValidationError) -> Error {
        let given_back = app.database.write(&self.reservation, |connection, reservation| {
            Box::pin(attempts::give_back(connection, reservation))
        });
        match given_back.await {
            Ok(()) => Error::Refused(vec![FieldError { field, message }]),
            Err(error) => error.into(),
        }
    }

    /// Converts the outcome of the statement that makes the change to an error.
    ///
    /// # Errors
    /// 40103, 40301.
    pub fn check(&self, outcome: OwnChange) -> Result<(), Error> {
        match outcome {
            OwnChange::Done => Ok(()),
            OwnChange::PasswordChanged => Err(Error::WrongOwnPassword((self.wrong)(self.user.user_id))),
            OwnChange::NotLive => Err(not_live(&self.token)),
        }
    }
}

/// Counts the attempt, if the session is live, and reads the credentials.
async fn reserve(
    app: &App,
    request: &Request,
    token: &VerifiedToken,
) -> Result<(Reservation, Credentials), Error> {
    // A userid never changes, so the one in the token is the one by which log-ins are counted.
    let userid = UserId::canonical(&token.claims.userid);
    let source = http::source_address(request);
    let counts = LoginCounts::new(&userid, source, app.limits.failures_per_address);
    let counts = &counts;
    let attempt = app.attempts.reserve(counts, |failed| {
        Box::pin(async move {
            app.database
                .write(&(counts, token, failed), |connection, (counts, token, failed)| {
                    Box::pin(attempts::reserve_own(connection, counts, token, failed))
                })
                .await?
                .ok_or_else(|| not_live(token))
        })
    });
    let (reservation, found) = admitted(attempt.await?, None)?;
    // A live session has a user.
    let found = found.ok_or_else(|| not_live(token))?;
    Ok((reservation, *found))
}

/// The event for a wrong password, where no other one says more.
pub fn login_fail(user_id: Uuid) -> SecurityEvent {
    SecurityEvent::LoginFail {
        user_id: Some(user_id),
        way: None,
    }
}
