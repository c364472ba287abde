//! Why a value is refused.

/// One short sentence that never quotes the value.
pub type Refusal = &'static str;
