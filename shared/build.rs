//! A new migration must rebuild the crate: the macro that embeds them notices changed files only.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
