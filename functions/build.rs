//! Takes the files of Swagger UI out of their archive. A member of a zip archive is compressed as a gzip file is
//! (RFC 1951), so it gets another frame and stays compressed.

use std::env;
use std::fs;
use std::path::Path;

const FILES: [&str; 2] = ["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let directory = env::var("OUT_DIR").expect("cargo sets it");
    for name in FILES {
        let file = gzip(&member(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED, name));
        fs::write(Path::new(&directory).join(format!("{name}.gz")), file).expect("a file");
    }
}

struct Member<'a> {
    deflated: &'a [u8],
    crc: u32,
    size: u32,
}

/// The one member of `zip` with this file name, by the archive's central directory (APPNOTE.TXT 4.3).
fn member<'a>(zip: &'a [u8], file_name: &str) -> Member<'a> {
    let end = zip.windows(4).rposition(|window| window == b"PK\x05\x06");
    let end = &zip[end.expect("a zip archive")..];
    let mut entry = &zip[long(end, 16) as usize..];
    while entry.starts_with(b"PK\x01\x02") {
        let name_end = 46 + usize::from(short(entry, 28));
        let name = &entry[46..name_end];
        if name.ends_with(format!("/{file_name}").as_bytes()) {
            assert_eq!(short(entry, 10), 8, "{file_name} is deflated");
            let local = &zip[long(entry, 42) as usize..];
            let start = 30 + usize::from(short(local, 26)) + usize::from(short(local, 28));
            return Member {
                deflated: &local[start..start + long(entry, 20) as usize],
                crc: long(entry, 16),
                size: long(entry, 24),
            };
        }
        entry = &entry[name_end + usize::from(short(entry, 30)) + usize::from(short(entry, 32))..];
    }
    panic!("{file_name} is not in the archive")
}

/// A gzip file without name and time (RFC 1952 §2.3).
fn gzip(member: &Member) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    file.extend_from_slice(member.deflated);
    file.extend_from_slice(&member.crc.to_le_bytes());
    file.extend_from_slice(&member.size.to_le_bytes());
    file
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
