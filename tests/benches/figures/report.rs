//! The printed table and the JSON file.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What a figure is compared with.
pub enum Against {
    /// A baseline from the same run, and the target for the ratio, if there is one.
    Baseline {
        what: &'static str,
        value: f64,
        target: Option<f64>,
    },
    /// An absolute maximum.
    Most(f64),
    /// Nothing.
    Nothing,
}

/// All figures of a run.
pub struct Report {
    figures: Vec<Value>,
    saved: Option<Value>,
}

impl Report {
    /// An empty report, optionally compared with the file of an earlier run.
    pub fn new(saved: Option<&Path>) -> Self {
        let saved = saved.map(|file| {
            let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            serde_json::from_str(&text).expect("the file of an earlier run")
        });
        Self {
            figures: Vec::new(),
            saved,
        }
    }

    /// Starts a section.
    pub fn title(&mut self, title: &str) {
        println!("\n{title}\n");
        let saved = if self.saved.is_some() { "  saved" } else { "" };
        println!(
            "{:<46} {:>13}  {:>30}  {:>7}  {:>8}{saved}",
            "", "measured", "baseline", "ratio", "target"
        );
    }

    /// Adds a figure. `value` is the median if there are several samples.
    pub fn add(&mut self, name: &str, value: f64, unit: &str, against: &Against) {
        let (baseline, ratio, target) = match *against {
            Against::Baseline {
                what,
                value: baseline,
                target,
            } => {
                let baseline_text = format!("{} ({what})", number(baseline, unit));
                (
                    baseline_text,
                    Some(value / baseline),
                    target.map(|target| format!("≤ {target} ×")),
                )
            }
            Against::Most(most) => (String::new(), None, Some(format!("≤ {most}"))),
            Against::Nothing => (String::new(), None, None),
        };
        let times = |ratio: f64| format!("{ratio:.2} ×");
        let saved = self
            .saved_figure(name)
            .map(|saved| match saved["ratio"].as_f64() {
                Some(ratio) => times(ratio),
                None => number(saved["value"].as_f64().unwrap_or_default(), unit),
            });
        println!(
            "{name:<46} {:>13}  {baseline:>30}  {:>7}  {:>8}  {}",
            number(value, unit),
            ratio.map(times).unwrap_or_default(),
            target.unwrap_or_default(),
            saved.unwrap_or_default(),
        );
        let (baseline, baseline_value, target) = match *against {
            Against::Baseline { what, value, target } => (Some(what), Some(value), target),
            Against::Most(most) => (None, None, Some(most)),
            Against::Nothing => (None, None, None),
        };
        self.figures.push(json!({
            "name": name, "value": value, "unit": unit, "baseline": baseline, "baseline_value": baseline_value,
            "ratio": ratio, "target": target,
        }));
    }

    fn saved_figure(&self, name: &str) -> Option<&Value> {
        let figures = self.saved.as_ref()?["figures"].as_array()?;
        figures.iter().find(|figure| figure["name"] == name)
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) {
        let text =
            serde_json::to_string_pretty(&json!({ "figures": self.figures })).expect("numbers and text");
        fs::write(file, text + "\n").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        println!("\nwritten to {}", file.display());
    }
}

fn number(value: f64, unit: &str) -> String {
    let digits = if value.fract() == 0.0 || value >= 1_000.0 {
        0
    } else if value >= 100.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// The quantile of the samples: 0.5 is the median.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "thousands of samples"
    )]
    let position = (share * (samples.len() - 1) as f64).round() as usize;
    samples[position]
}

/// The median.
pub fn median(samples: &mut [f64]) -> f64 {
    quantile(samples, 0.5)
}
