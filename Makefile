# `make up` runs Metaflowbot, `make test` passes the tests. Both make their own virtual environment
# in .venv and are quick the second time. They need Python 3.11+, git and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Docs for the benchmark; without them it uses the API reference alone.
DOCS ?=
DATASET ?=

.PHONY: up test check audit bench fuzz chaos faults load soak scale lock image secrets clean

up: $(VENV)/.installed
	$(BIN)/metaflowbot up

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n auto --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m evals.gate
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@$(MAKE) --no-print-directory audit

# The bill of materials in build/sbom.json, and known vulnerabilities of what is locked. Left out is
# the advisory on Chroma's server, which docker-compose.yml keeps on an internal network.
audit: $(VENV)/.installed-dev
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --output-file build/sbom.json
	@if $(BIN)/python -c 'import socket; socket.create_connection(("api.osv.dev", 443), 5)' 2>/dev/null; \
	then $(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip \
	  --vulnerability-service osv --ignore-vuln CVE-2026-45829; \
	else echo "skipped: pip-audit (api.osv.dev can't be reached)"; fi

bench: $(VENV)/.installed-dev
	$(BIN)/python -m evals.bench $(if $(DOCS),--docs $(DOCS)) $(if $(DATASET),--dataset $(DATASET))

# Malformed payloads of Slack's, API requests, exports and pages: so many of each kind.
COUNT ?= 10000
fuzz: $(VENV)/.installed-dev
	FUZZ_COUNT=$(COUNT) $(BIN)/pytest -n auto tests/fuzz

# What an operator wants to see proved; each prints its figures, and fails where they fall short.
# They take minutes, want an otherwise idle machine, and talk to nothing but it.
chaos: $(VENV)/.installed-dev
	$(BIN)/python -m tests.scenarios.chaos --database sqlite
	$(BIN)/python -m tests.scenarios.chaos --database postgresql

faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.scenarios.faults

load: $(VENV)/.installed-dev
	$(BIN)/python -m tests.scenarios.load_slack --seconds 300

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.scenarios.soak

scale: $(VENV)/.installed-dev
	$(BIN)/python -m tests.scenarios.scale

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Metaflowbot needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/.made
	@echo "Installing Metaflowbot and what it needs (about 850 MB; a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "Installing the tools for tests and checks"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock
	@touch $@

# Needs uv. The lock files hold versions and hashes, and no addresses.
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --quiet \
  --generate-hashes --no-emit-index-url --no-annotate --no-header --extra minilm
lock:
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock

# Builds the image with buildah, without a Docker engine, and tries it. Needs root on Debian.
image:
	deploy/try-image.sh

# Made once and never again. The folder is its owner's alone; the files in it are readable, since
# each is mounted alone into a container that runs as another user.
RANDOM_HEX := python3 -c 'import secrets; print(secrets.token_hex(24), end="")'
FILLED := api_token postgres_password grafana_password
PASTED := openai_api_key slack_bot_token slack_app_token slack_signing_secret github_token
secrets:
	@mkdir -p -m 700 secrets
	@for name in $(FILLED); do [ -s secrets/$$name ] || $(RANDOM_HEX) > secrets/$$name; done
	@[ -s secrets/database_url ] || printf 'postgresql://metaflowbot:%s@postgres/metaflowbot' \
	  "$$(cat secrets/postgres_password)" > secrets/database_url
	@for name in $(PASTED); do [ -e secrets/$$name ] || : > secrets/$$name; done
	@chmod 644 secrets/*
	@echo "secrets/ is ready: paste Slack's tokens and the model's key into its files"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
