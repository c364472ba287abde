//! Replies of handlers, and the form of every response.

use lambda_http::Body;
use lambda_http::Response;
use lambda_http::http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, FieldError};

/// Headers of every response. A reply may override them.
pub static HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_TYPE, "application/json"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::STRICT_TRANSPORT_SECURITY,
        "max-age=63072000; includeSubDomains",
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// The reply of a handler.
#[derive(Debug)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) code: u32,
    body: Body,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What went wrong, for the log.
    pub error: Option<Error>,
}

#[derive(Serialize)]
struct Envelope<T> {
    code: u32,
    message: &'static str,
    data: T,
}

/// `data` of a 42201.
#[derive(Serialize, ToSchema)]
pub struct RefusedFields<'a> {
    /// All rejected fields.
    errors: &'a [FieldError],
}

/// `data` of a 42901.
#[derive(Serialize, ToSchema)]
pub struct RetryAfter {
    /// Whole seconds to wait before the next attempt, as in the header `Retry-After`.
    #[schema(minimum = 1, example = 8)]
    retry_after: u32,
}

impl Reply {
    /// 200 with `data` in the envelope.
    ///
    /// # Errors
    /// [`Error::Defect`] when `data` cannot be serialized.
    pub fn success(data: impl Serialize) -> Result<Self, Error> {
        Self::json(
            StatusCode::OK,
            1,
            &Envelope {
                code: 1,
                message: "success",
                data,
            },
        )
    }

    /// `error` in the envelope, with `data`.
    ///
    /// # Errors
    /// [`Error::Defect`] when `data` cannot be serialized.
    pub fn failure(error: Error, data: impl Serialize) -> Result<Self, Error> {
        let envelope = Envelope {
            code: error.code(),
            message: error.message(),
            data,
        };
        Ok(Self::json(error.status(), error.code(), &envelope)?.caused_by(error))
    }

    /// `body` without the envelope. `code` is only logged.
    ///
    /// # Errors
    /// [`Error::Defect`] when it cannot be serialized.
    pub fn json(status: StatusCode, code: u32, body: &impl Serialize) -> Result<Self, Error> {
        let body =
            serde_json::to_string(body).map_err(|error| Error::Defect(format!("response: {error}")))?;
        Ok(Self {
            status,
            code,
            body: Body::Text(body),
            headers: Vec::new(),
            error: None,
        })
    }

    /// 200 with a body other than JSON, which `headers` describe.
    #[must_use]
    pub fn file(body: Body, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self {
            status: StatusCode::OK,
            code: 1,
            body,
            headers,
            error: None,
        }
    }

    /// The body, and the headers specific to this reply.
    #[must_use]
    pub fn body_and_headers(&self) -> (&Body, &[(HeaderName, HeaderValue)]) {
        (&self.body, &self.headers)
    }

    /// Records the error behind this reply, for the log, and adds the headers that belong to it.
    #[must_use]
    pub fn caused_by(mut self, error: Error) -> Self {
        self.headers.extend(match &error {
            Error::NoCredentials => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="people""#),
            )),
            Error::TokenNotLive { .. } => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="people", error="invalid_token""#),
            )),
            Error::TooManyAttempts { retry_after, .. } => {
                Some((header::RETRY_AFTER, HeaderValue::from(*retry_after)))
            }
            Error::Unavailable(_) => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        });
        self.error = Some(error);
        self
    }
}

impl Reply {
    /// The response: this reply with the headers of every response and those of its route.
    pub(super) fn into_response(
        self,
        request_id: &str,
        route_headers: &[(&'static str, &'static str)],
    ) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(12);
        for (name, value) in &HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(request_id) = HeaderValue::from_str(request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), request_id);
        }
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        for (name, value) in route_headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Data<'a> {
            Refused(RefusedFields<'a>),
            Later(RetryAfter),
        }
        let data = match &error {
            Error::Refused(errors) => Some(Data::Refused(RefusedFields { errors })),
            Error::TooManyAttempts { retry_after, .. } => Some(Data::Later(RetryAfter {
                retry_after: *retry_after,
            })),
            _ => None,
        };
        let envelope = Envelope {
            code: error.code(),
            message: error.message(),
            data,
        };
        // Strings and numbers only, which can always be serialized.
        let body = serde_json::to_string(&envelope).unwrap_or_default();
        Self {
            status: error.status(),
            code: error.code(),
            body: Body::Text(body),
            headers: Vec::new(),
            error: None,
        }
        .caused_by(error)
    }
}
