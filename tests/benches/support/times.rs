//! Statistics of measured times.

use serde_json::{Value, json};

/// Percentiles, in milliseconds.
#[derive(Clone, Copy)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Percentiles {
    /// Needs at least one time.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_unstable_by(f64::total_cmp);
        let [p50, p95, p99] = [50, 95, 99].map(|percent| times[(times.len() - 1) * percent / 100]);
        Self { p50, p95, p99 }
    }

    pub fn json(self) -> Value {
        json!({ "p50_ms": rounded(self.p50), "p95_ms": rounded(self.p95), "p99_ms": rounded(self.p99) })
    }
}

/// Rounds to four decimal places; the rest is noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The quartiles of some numbers.
pub fn quartiles(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[(numbers.len() - 1) * quarter / 4])
}
