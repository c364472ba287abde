# Common commands for `just` (`cargo install just`, `brew install just`, `pip install rust-just`).

[private]
default:
    @just --list

# Run everything on http://127.0.0.1:3000, with an embedded database
run *arguments:
    cargo run -p local -- {{ arguments }}

# Run the tests, or those whose names contain a filter: `just test me::`
test filter='':
    cargo test --workspace -- {{ filter }}

# Format and run clippy
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Regenerate functions/docs/openapi.json, after a change to the interface
openapi:
    cargo run --example openapi

# Regenerate .sqlx, after a change to a statement or the schema
sqlx:
    .ci/run prepare

# Run all stages of CI, or only some: `just ci fmt template`
ci *stages:
    .ci/run {{ stages }}
