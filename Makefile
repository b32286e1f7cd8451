# make run     the agent in the foreground on config/local.toml, in a virtual environment of its own
# make test    the whole suite, with its coverage      make quick   the suite without its slow tests
#              (as root it installs the programs that some tests run, with apt-get)
# make check   style, types, known vulnerabilities, secrets
# make bench   what it costs, beside gzip              make bench-compare   the same, against the committed ratios
# make packages   a .deb and a .rpm of it, in dist/, for this machine's Python
.PHONY: run test quick check bench bench-compare packages clean
.DEFAULT_GOAL := run
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# The first Python on the PATH that is new enough; `make run PYTHON=/path/to/python` names another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && command -v $$p; done; true))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LEAST_COVERAGE := 90

run: .venv/run.stamp
	@echo "Health   curl http://127.0.0.1:9465/health/ready"
	@echo "Status   $(BIN)/telemetry-agent status --config config/local.toml"
	@echo "Proof    $(BIN)/telemetry-agent ledger --config config/local.toml"
	@echo "Metrics  curl http://127.0.0.1:9465/metrics"
	@echo "Output   tail -f var/local/out/logs.jsonl"
	@echo "Stop     Ctrl-C"
	@exec $(BIN)/telemetry-agent run --config config/local.toml

test: .venv/dev.stamp
	@bash .ci/install_programs
	@mkdir -p build && $(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest 2>&1 | tee build/pytest.log
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --skip-empty --show-missing --fail-under=$(LEAST_COVERAGE)
	@tail -n 1 build/pytest.log

quick: .venv/dev.stamp
	@$(BIN)/pytest -m "not slow"

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/scan_secrets.py
	$(BIN)/python .ci/audit_dependencies.py

bench: .venv/dev.stamp
	@$(BIN)/python -m benchmarks

bench-compare: .venv/dev.stamp
	@$(BIN)/python -m benchmarks --compare

packages:
	@bash packaging/build.sh

.venv/run.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on the PATH"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv"
	@$(PIP) --editable .
	@touch $@

.venv/dev.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on the PATH"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv, with what the tests need"
	@$(PIP) --editable '.[dev]'
	@touch .venv/run.stamp $@

clean:
	rm -rf .venv build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
