//! All errors of requests: one variant for each code.

use lambda_http::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::StartError;
use crate::database::DatabaseError;
use crate::password::HashError;
use crate::telemetry::{LoginWay, SecurityEvent};
use crate::validation::ValidationError;

/// A failed request. The client gets [`Error::message`]; the rest is for the log.
#[derive(Debug)]
pub enum Error {
    /// The body is not one well-formed UTF-8 JSON object.
    MalformedBody,
    /// Userid or password is wrong. Only the log may tell which.
    WrongCredentials {
        /// The account, if there is one.
        user_id: Option<Uuid>,
        /// How the log-in was attempted.
        way: LoginWay,
    },
    /// No bearer credentials were sent.
    NoCredentials,
    /// The bearer token is malformed, forged, expired or revoked, or more than one was sent.
    TokenNotLive {
        /// Its user, if it is one of ours.
        user_id: Option<Uuid>,
    },
    /// The current password, which has to be confirmed, is wrong.
    WrongOwnPassword(SecurityEvent),
    /// The password is right, but the account is disabled.
    AccountDisabled {
        /// The account.
        user_id: Uuid,
        /// How the log-in was attempted.
        way: LoginWay,
    },
    /// No such path.
    NotFound,
    /// The user has no live session with that id.
    SessionNotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// The userid is taken.
    UseridTaken,
    /// The link is malformed, forged, used, superseded or expired, or its user is gone or disabled.
    InvalidLink(SecurityEvent),
    /// The body is over 16 KiB.
    BodyTooLarge,
    /// The endpoint does not accept the content type.
    UnsupportedMediaType,
    /// Fields are missing, of the wrong type or rejected. Lists all of them.
    Refused(Vec<FieldError>),
    /// Too many attempts.
    TooManyAttempts {
        /// Whole seconds to wait before the next attempt.
        retry_after: u32,
        /// The event to log.
        event: SecurityEvent,
    },
    /// A defect of ours, with a description for the log.
    Defect(String),
    /// The database cannot be reached or is too slow, with a description for the log.
    Unavailable(String),
}

/// A rejected field, and why; never its value.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, ToSchema)]
pub struct FieldError {
    /// The member of the request.
    #[schema(example = "password")]
    pub field: &'static str,
    /// One short sentence.
    #[schema(value_type = String, example = "must have at least 8 characters")]
    pub message: ValidationError,
}

impl Error {
    /// One of each kind, in the order of their codes.
    pub fn each() -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::MalformedBody), Self::next)
    }

    fn next(&self) -> Option<Self> {
        Some(match self {
            Self::MalformedBody => Self::WrongCredentials {
                user_id: None,
                way: LoginWay::Json,
            },
            Self::WrongCredentials { .. } => Self::NoCredentials,
            Self::NoCredentials => Self::TokenNotLive { user_id: None },
            Self::TokenNotLive { .. } => {
                Self::WrongOwnPassword(SecurityEvent::PasswordChangeFail { user_id: None })
            }
            Self::WrongOwnPassword(_) => Self::AccountDisabled {
                user_id: Uuid::nil(),
                way: LoginWay::Json,
            },
            Self::AccountDisabled { .. } => Self::NotFound,
            Self::NotFound => Self::SessionNotFound,
            Self::SessionNotFound => Self::MethodNotAllowed,
            Self::MethodNotAllowed => Self::UseridTaken,
            Self::UseridTaken => Self::InvalidLink(SecurityEvent::LinkRefused { user_id: None }),
            Self::InvalidLink(_) => Self::BodyTooLarge,
            Self::BodyTooLarge => Self::UnsupportedMediaType,
            Self::UnsupportedMediaType => Self::Refused(vec![FieldError {
                field: "password",
                message: ValidationError::TooShort(8),
            }]),
            Self::Refused(_) => Self::TooManyAttempts {
                retry_after: 8,
                event: SecurityEvent::TooManyRegistrations,
            },
            Self::TooManyAttempts { .. } => Self::Defect(String::new()),
            Self::Defect(_) => Self::Unavailable(String::new()),
            Self::Unavailable(_) => return None,
        })
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::WrongCredentials { .. } | Self::NoCredentials | Self::TokenNotLive { .. } => {
                StatusCode::UNAUTHORIZED
            }
            Self::WrongOwnPassword(_) | Self::AccountDisabled { .. } => StatusCode::FORBIDDEN,
            Self::NotFound | Self::SessionNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UseridTaken => StatusCode::CONFLICT,
            Self::InvalidLink(_) => StatusCode::GONE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Defect(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The number in the envelope.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::MalformedBody => 40001,
            Self::WrongCredentials { .. } => 40101,
            Self::NoCredentials => 40102,
            Self::TokenNotLive { .. } => 40103,
            Self::WrongOwnPassword(_) => 40301,
            Self::AccountDisabled { .. } => 40302,
            Self::NotFound => 40401,
            Self::SessionNotFound => 40402,
            Self::MethodNotAllowed => 40501,
            Self::UseridTaken => 40901,
            Self::InvalidLink(_) => 41001,
            Self::BodyTooLarge => 41301,
            Self::UnsupportedMediaType => 41501,
            Self::Refused(_) => 42201,
            Self::TooManyAttempts { .. } => 42901,
            Self::Defect(_) => 50001,
            Self::Unavailable(_) => 50301,
        }
    }

    /// The message in the envelope, fixed for each code.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self {
            Self::MalformedBody => "The body is not one well-formed JSON object.",
            Self::WrongCredentials { .. } => "The userid or the password is wrong.",
            Self::NoCredentials => "A bearer token is required.",
            Self::TokenNotLive { .. } => "The bearer token is not valid or no longer valid.",
            Self::WrongOwnPassword(_) => "The account's password is wrong.",
            Self::AccountDisabled { .. } => "The account is disabled.",
            Self::NotFound => "There is no such path.",
            Self::SessionNotFound => "There is no such session.",
            Self::MethodNotAllowed => "The path has no such method.",
            Self::UseridTaken => "The userid is taken.",
            Self::InvalidLink(_) => "The link is not valid or no longer valid.",
            Self::BodyTooLarge => "The body is larger than 16 KiB.",
            Self::UnsupportedMediaType => "The content type is not supported.",
            Self::Refused(_) => "At least one field was refused.",
            Self::TooManyAttempts { .. } => "There were too many attempts.",
            Self::Defect(_) => "An internal error occurred.",
            Self::Unavailable(_) => "The service is temporarily unavailable.",
        }
    }

    /// The description for the log, besides status and code.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Defect(detail) | Self::Unavailable(detail) => Some(detail),
            _ => None,
        }
    }

    /// The security event to log, if any.
    #[must_use]
    pub fn security_event(&self) -> Option<SecurityEvent> {
        match self {
            Self::WrongCredentials { user_id, way } => Some(SecurityEvent::LoginFail {
                user_id: *user_id,
                way: Some(*way),
            }),
            Self::AccountDisabled { user_id, way } => Some(SecurityEvent::LoginFail {
                user_id: Some(*user_id),
                way: Some(*way),
            }),
            Self::TokenNotLive { user_id } => Some(SecurityEvent::TokenRefused { user_id: *user_id }),
            Self::WrongOwnPassword(event)
            | Self::InvalidLink(event)
            | Self::TooManyAttempts { event, .. } => Some(*event),
            Self::MalformedBody | Self::BodyTooLarge | Self::UnsupportedMediaType | Self::Refused(_) => {
                Some(SecurityEvent::InputValidationFail)
            }
            Self::NoCredentials
            | Self::NotFound
            | Self::SessionNotFound
            | Self::MethodNotAllowed
            | Self::UseridTaken
            | Self::Defect(_)
            | Self::Unavailable(_) => None,
        }
    }
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        match &error {
            DatabaseError::Unavailable(_) => Self::Unavailable(error.to_string()),
            DatabaseError::Defect(_) => Self::Defect(error.to_string()),
        }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Config(_) => Self::Defect(error.to_string()),
            StartError::Aws(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<HashError> for Error {
    fn from(error: HashError) -> Self {
        Self::Defect(error.to_string())
    }
}
