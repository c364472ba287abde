# The few commands, for `just` (`cargo install just`, `brew install just`, `pip install rust-just`).

[private]
default:
    @just --list

# Everything on http://127.0.0.1:3000, with a database of its own
run *arguments:
    cargo run -p local -- {{ arguments }}

# The contract's tests, or those whose names contain this: `just test me::`
test filter='':
    cargo test --workspace -- {{ filter }}

# Format, then what clippy says
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Write functions/docs/openapi.json anew, after a change of the interface
openapi:
    cargo run --example openapi

# Write .sqlx anew, after a change of a statement or of the schema
sqlx:
    .ci/run prepare

# What CI runs, or only these stages: `just ci fmt template`
ci *stages:
    .ci/run {{ stages }}
