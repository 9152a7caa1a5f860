#!/usr/bin/env bash
# End-to-end tests: a node of this tree's binary, driven as people and AWS's clients drive it.
#
#   tests/e2e/run.sh                    everything
#   tests/e2e/run.sh test_cli.Run       one class, one test, one *.test.mjs
#
# PROFILE names the build (debug unless told otherwise). The clients' packages come from where `make e2e` puts them.
set -euo pipefail
cd "$(dirname "$0")/../.."

profile=${PROFILE:-debug}
build=(cargo build --quiet)
case $profile in
    debug) ;;
    release) build+=(--release) ;;
    *) build+=(--profile "$profile") ;;
esac
"${build[@]}"
export LICHEN_BINARY=${CARGO_TARGET_DIR:-$PWD/target}/$profile/lichen

if ! python3 -c 'import boto3' 2>/dev/null; then
    if [ -x .build/venv/bin/python ]; then
        PATH=$PWD/.build/venv/bin:$PATH
    fi
    python3 -c 'import boto3' || { echo "the tests need boto3: run them by \`make e2e\`" >&2; exit 2; }
fi
exec python3 -B tests/e2e/suite.py "$@"
