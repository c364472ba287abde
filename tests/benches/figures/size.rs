//! (f) Sizes of the binaries and the uploaded zips.

use std::fs;
use std::path::Path;
use std::process::Command;

use uuid::Uuid;

use crate::report::{Against, Report};
use crate::{binary, build};

/// Measures the release binaries.
pub fn measure(report: &mut Report) {
    let functions: Vec<_> = functions::all().iter().map(|function| function.name).collect();
    build(&functions);
    report.title("Size (with the AWS SDK in each, for secrets and IAM)");
    let hello = [binary_size(&binary("hello")), zip_size(&binary("hello"))];
    for name in ["hello"].into_iter().chain(functions) {
        let sizes = [binary_size(&binary(name)), zip_size(&binary(name))];
        for ((what, size), hello) in ["binary", "zip"].into_iter().zip(sizes).zip(hello) {
            let against = match (name, what) {
                ("hello", _) => Against::Nothing,
                (_, "zip") => Against::Most(3.6),
                _ => Against::Baseline {
                    what: "hello",
                    value: hello,
                    target: None,
                },
            };
            report.add(&format!("{what} of {name}"), size, "MB", &against);
        }
    }
}

fn binary_size(file: &Path) -> f64 {
    megabytes(file)
}

/// Packed with Python's zipfile, as SAM does.
fn zip_size(file: &Path) -> f64 {
    let zip = std::env::temp_dir().join(format!("people-{}.zip", Uuid::new_v4()));
    let status = Command::new("python3")
        .args(["-m", "zipfile", "-c"])
        .arg(&zip)
        .arg(file)
        .status();
    assert!(status.expect("python3 runs").success(), "python3 -m zipfile");
    let size = megabytes(&zip);
    fs::remove_file(&zip).expect("ours to remove");
    size
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn megabytes(file: &Path) -> f64 {
    fs::metadata(file).expect("a file").len() as f64 / 1e6
}
