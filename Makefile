# make build   the lichen binary and the forkable runtimes, optimised
# make test    everything that must pass, one stage after the other; make e2e: its last stage alone
# make demo    the examples on a node of their own, cold and warm, and what it took
# make tidy    the house rules alone
# make guest   pure functions in C and Rust for the tests, as far as there are compilers: into .build/guest
# make audit   licences, advisories and sources of what we depend on (needs cargo-deny)
# make clean   what the above left behind
#
# Python packages go to a virtual environment under .build, so that nothing is installed into the machine's own.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: build test demo guest fmt clippy tidy units python e2e prepare audit clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := .build/venv
PACKAGES := $(wildcard examples/*/requirements.txt bench/apps/*/requirements.txt lang/*/tests/requirements.txt \
    tests/e2e/requirements.txt)
NODE_PACKAGES := $(patsubst %/package-lock.json,%/node_modules,$(wildcard tests/e2e/package-lock.json))

build:
	@.ci/install build
	@echo "==> build"
	cargo build --release

test: prepare fmt clippy tidy guest units python e2e
	@echo "==> all stages passed"

demo: build
	@echo "==> demo"
	@python3 examples/demo.py "$(TARGET)/release/lichen"

fmt:
	@echo "==> 1/6 format"
	@cargo fmt --all --check

clippy:
	@echo "==> 2/6 lints"
	@cargo clippy --workspace --all-targets --quiet -- -D warnings

tidy:
	@echo "==> 3/6 house rules"
	@cargo xtask tidy

# The tests of sandboxes load the language runtimes' libraries, which `cargo test` does not build. Those of the Python
# runtime import packages of the virtual environment, where the interpreter they run is of the same version.
units: $(VENV)/ready
	@echo "==> 4/6 tests of the crates"
	@cargo build
	@LICHEN_PYTHONPATH="$$(echo "$(CURDIR)"/$(VENV)/lib/python3*/site-packages)" tests/crates.sh
	@echo "==> 4/6 models of what is lock-free"
	@RUSTFLAGS="--cfg loom" timeout 600 cargo test --target-dir "$(TARGET)/loom" --package interconnect --package socket --lib

python: $(VENV)/ready
	@echo "==> 5/6 examples and apps as plain code"
	@$(VENV)/bin/python -B -m unittest discover examples
	@$(VENV)/bin/python -B -m unittest discover bench/apps

# The tests find the packages of the clients they drive (boto3 and the like) in the virtual environment.
e2e: $(VENV)/ready $(NODE_PACKAGES)
	@echo "==> 6/6 end to end: a node driven from outside"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" tests/e2e/run.sh

guest:
	@echo "==> pure functions for tests"
	@$(MAKE) --no-print-directory -C guest all test

prepare:
	@.ci/install

$(VENV)/ready: $(PACKAGES)
	@echo "==> Python packages into $(VENV)"
	@python3 -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$(PACKAGES))
	@touch $@

%/node_modules: %/package-lock.json
	@echo "==> Node packages into $@"
	@npm ci --prefix $* --silent --no-audit --no-fund
	@touch $@

audit:
	cargo deny check

clean:
	cargo clean
	rm -rf .build tests/e2e/node_modules
	find . -name __pycache__ -prune -exec rm -rf {} +
