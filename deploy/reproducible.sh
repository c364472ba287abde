#!/bin/sh
# Builds the functions twice from nothing, and compares: `deploy/reproducible.sh [BINARY…]`, default all. A release
# takes functions with other bytes for changed, so bytes that differ by themselves would move functions that are the
# same.
set -eu
cd "$(dirname "$0")/.."
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
if [ $# -eq 0 ]; then
    for main in functions/*/main.rs; do set -- "$@" "$(basename "$(dirname "$main")")"; done
fi
for binary; do arguments="${arguments-} --bin $binary"; done
for build in first second; do
    rm -rf "$directory/target"
    # shellcheck disable=SC2086 # several words
    SQLX_OFFLINE=true CARGO_TARGET_DIR="$directory/target" cargo build --quiet --locked --release --package functions $arguments
    (cd "$directory/target/release" && sha256sum "$@") >"$directory/$build"
done
diff "$directory/first" "$directory/second"
cat "$directory/first"
