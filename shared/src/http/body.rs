//! Request bodies: strict parsing of JSON and forms, collecting all rejected fields.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use lambda_http::http::header::CONTENT_TYPE;
use lambda_http::{Body, Request};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, FieldError};
use crate::users::Change;
use crate::validation::ValidationError;

/// Maximum bytes of a body.
pub const MAX_BYTES: usize = 16 * 1024;

/// The media type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

impl MediaType {
    /// The media type in the request's only `Content-Type` header; parameters (such as a charset) are ignored.
    ///
    /// # Errors
    /// [`Error::UnsupportedMediaType`] for any other media type, and unless there is exactly one header.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let mut values = request.headers().get_all(CONTENT_TYPE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Error::UnsupportedMediaType);
        };
        let value = value.to_str().map_err(|_| Error::UnsupportedMediaType)?;
        // An HTTP API joins multiple headers with commas.
        if value.contains(',') {
            return Err(Error::UnsupportedMediaType);
        }
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Ok(Self::Form)
        } else {
            Err(Error::UnsupportedMediaType)
        }
    }
}

/// The bytes of a body, after decoding.
#[must_use]
pub fn bytes(request: &Request) -> &[u8] {
    match request.body() {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
        _ => &[],
    }
}

/// The members of a JSON object, to be taken one by one, collecting errors.
#[derive(Debug)]
pub struct Members {
    members: HashMap<String, Member>,
    errors: Vec<FieldError>,
}

#[derive(Debug)]
enum Member {
    Null,
    Text(String),
    Other,
}

impl Members {
    /// Parses the body of `request`.
    ///
    /// # Errors
    /// [`Error::UnsupportedMediaType`] unless it is `application/json`; [`Error::MalformedBody`] unless it is one
    /// well-formed JSON object in UTF-8 without repeated members at any depth.
    pub fn of_json(request: &Request) -> Result<Self, Error> {
        if MediaType::of(request)? != MediaType::Json {
            return Err(Error::UnsupportedMediaType);
        }
        serde_json::from_slice(bytes(request)).map_err(|_| Error::MalformedBody)
    }

    /// Takes a required member. `None` means that it was rejected, which [`Members::finish`] will report.
    pub fn required<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let outcome = match self.members.remove(field) {
            Some(Member::Text(text)) => parse(&text),
            Some(Member::Null) | None => Err(ValidationError::Missing),
            Some(Member::Other) => Err(ValidationError::NotText),
        };
        outcome.map_err(|message| self.refuse(field, message)).ok()
    }

    /// Takes an optional member: null and the empty string count as absent.
    pub fn optional<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        match self.members.get(field) {
            None | Some(Member::Null) => None,
            Some(Member::Text(text)) if text.is_empty() => None,
            Some(_) => self.required(field, parse),
        }
    }

    /// Takes an optional text: null and a blank text count as absent.
    pub fn optional_text(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<String, ValidationError>,
    ) -> Option<String> {
        self.optional(field, parse).filter(|text| !text.is_empty())
    }

    /// Takes a member of a merge patch (RFC 7396): if absent it is kept, if null or blank it is cleared.
    pub fn change(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<String, ValidationError>,
    ) -> Change {
        if self.members.contains_key(field) {
            self.optional_text(field, parse)
                .map_or(Change::Clear, Change::Set)
        } else {
            Change::Keep
        }
    }

    /// Rejects a member, whatever its value.
    pub fn forbid(&mut self, field: &'static str) {
        if self.members.remove(field).is_some() {
            self.refuse(field, ValidationError::NotChangeable);
        }
    }

    /// Records that a field is rejected.
    pub fn refuse(&mut self, field: &'static str, message: ValidationError) {
        self.errors.push(FieldError { field, message });
    }

    /// As [`Members::finish`]. Returns `taken`, what the required members made together: `None` only if one was
    /// rejected.
    ///
    /// # Errors
    /// [`Error::Refused`] with all rejected fields.
    pub fn finish_with<T>(self, taken: Option<T>) -> Result<T, Error> {
        self.finish()?;
        taken.ok_or_else(|| Error::Defect("a refused field was not reported".to_owned()))
    }

    /// To be called at the end. Members that were not taken are ignored.
    ///
    /// # Errors
    /// [`Error::Refused`] with all rejected fields.
    pub fn finish(self) -> Result<(), Error> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Error::Refused(self.errors))
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members, A::Error> {
                Ok(Members {
                    members: unique_members(map)?,
                    errors: Vec::new(),
                })
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Reads an object. Repeated members are rejected, since parsers differ in which one they use.
fn unique_members<'de, A: MapAccess<'de>>(mut map: A) -> Result<HashMap<String, Member>, A::Error> {
    let mut members = HashMap::new();
    while let Some((name, member)) = map.next_entry::<String, Member>()? {
        match members.entry(name) {
            Entry::Occupied(_) => return Err(de::Error::custom("repeated member")),
            Entry::Vacant(entry) => entry.insert(member),
        };
    }
    Ok(members)
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;

        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Null)
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Member, E> {
                Ok(Member::Text(text))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
                while seq.next_element::<Member>()?.is_some() {}
                Ok(Member::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member, A::Error> {
                unique_members(map).map(|_| Member::Other)
            }
        }

        deserializer.deserialize_any(MemberVisitor)
    }
}

/// A form that is not UTF-8 or has a repeated parameter (RFC 6749 §3.2).
#[derive(Debug, PartialEq, Eq)]
pub struct MalformedForm;

/// The parameters of a form. A parameter without a value counts as absent (RFC 6749 §3.2).
///
/// # Errors
/// [`MalformedForm`].
pub fn form_parameters(body: &[u8]) -> Result<HashMap<String, String>, MalformedForm> {
    let body = std::str::from_utf8(body).map_err(|_| MalformedForm)?;
    let mut parameters = HashMap::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if parameters.insert(decode(name)?, decode(value)?).is_some() {
            return Err(MalformedForm);
        }
    }
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

fn decode(text: &str) -> Result<String, MalformedForm> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| MalformedForm)
}
