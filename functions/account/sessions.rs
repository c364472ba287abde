//! `GET /auth/sessions`, `DELETE /auth/sessions`, `DELETE /auth/sessions/{session_id}`: the user's sessions.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::auth::{Authenticator, not_live};
use shared::error::Error;
use shared::http::{self, Reply};
use shared::sessions::{self, EndedOne, EndedOthers, Session};
use shared::telemetry::SecurityEvent;
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Serialize, ToSchema)]
struct SessionList {
    /// Newest log-in first, at most 100; exactly one is `current`.
    #[schema(max_items = 100)]
    sessions: Vec<Session>,
}

/// Answers 200 with the user's live sessions.
///
/// # Errors
/// 40102, 40103, 50301.
#[utoipa::path(
    get,
    path = "/auth/sessions",
    operation_id = "listSessions",
    tag = "session",
    summary = "Where am I logged in?",
    description = "Lists the user's live sessions, newest log-in first, at most 100.",
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The live sessions.", body = SessionList)),
)]
pub async fn list(state: &Authenticator, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let token = state.verified_token(request, now)?;
    let listed = state
        .database
        .read(&token, |connection, token| {
            Box::pin(sessions::list(connection, token))
        })
        .await?
        .ok_or_else(|| not_live(&token))?;
    if listed.stale {
        state.note_seen(&token).await;
    }
    Reply::success(SessionList {
        sessions: listed.sessions,
    })
}

/// Answers 200 with the number of other sessions that were ended.
///
/// # Errors
/// 40102, 40103, 50301.
#[utoipa::path(
    delete,
    path = "/auth/sessions",
    operation_id = "endOtherSessions",
    tag = "session",
    summary = "Log out everywhere else",
    description = "Ends the user's other sessions, at most 1,000 per request. The current session continues.",
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The sessions have ended.", body = EndedOthers)),
)]
pub async fn end_others(
    state: &Authenticator,
    request: &Request,
    now: DateTime<Utc>,
) -> Result<Reply, Error> {
    let token = state.verified_token(request, now)?;
    let ended = state
        .database
        .write(&token, |connection, token| {
            Box::pin(sessions::end_others(connection, token))
        })
        .await?
        .ok_or_else(|| not_live(&token))?;
    if ended.ended > 0 {
        SecurityEvent::TokenRevoked {
            user_id: token.claims.sub,
        }
        .log();
    }
    Reply::success(ended)
}

/// Answers 200 without data. For the current session it is a log-out.
///
/// # Errors
/// 40102, 40103, 40402, 50301.
#[utoipa::path(
    delete,
    path = "/auth/sessions/{session_id}",
    operation_id = "endSession",
    tag = "session",
    extensions(("x-codes" = json!([40402]))),
    summary = "Log out one device",
    description = "Ends a session of the user immediately, everywhere. For the current session it is a log-out.",
    params(("session_id" = Uuid, Path, description = "The id of a session in the list.")),
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The session has ended.")),
)]
pub async fn end_one(state: &Authenticator, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let token = state.verified_token(request, now)?;
    let session_id = http::path_parameter(request, "session_id").and_then(|id| Uuid::try_parse(id).ok());
    let own = session_id == Some(token.claims.jti);
    let ended = if own {
        let ended = state
            .database
            .write(&token, |connection, token| {
                Box::pin(sessions::end(connection, token))
            })
            .await?;
        if ended { EndedOne::Ended } else { EndedOne::NotLive }
    } else {
        // An invalid id is replaced by the nil UUID, which is never used, since the caller's session has to be verified
        // anyway.
        let session_id = session_id.unwrap_or_default();
        state
            .database
            .write(&(&token, session_id), |connection, (token, session_id)| {
                Box::pin(sessions::end_one(connection, token, *session_id))
            })
            .await?
    };
    match ended {
        EndedOne::Ended => {
            SecurityEvent::TokenRevoked {
                user_id: token.claims.sub,
            }
            .log();
            Reply::success(())
        }
        EndedOne::NotFound => Err(Error::SessionNotFound),
        EndedOne::NotLive => Err(not_live(&token)),
    }
}
