#!/usr/bin/env bash
# A program's own test suite without the library of hetero-socket and with it: run.sh cpython|node|redis [PATTERN] [--help].
# Says which tests differ; fails if one does that tests/suites/differences.toml does not name. See docs/socket-library.md.
set -euo pipefail

cd "$(dirname "$0")/../.."
cargo build --quiet --package preload --lib --example broker
exec python3 -B tests/suites/suites.py --built "${CARGO_TARGET_DIR:-target}/debug" "$@"
