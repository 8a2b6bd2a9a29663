# The commands of the tree; `make help` lists them, CONTRIBUTING.md says when to use which.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup check test explore demo bench chaos proto lock fmt clean
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The interpreter that .venv is made from: the first of these that is new enough.
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python, \
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PIP_HASHED := $(PIP) install --require-hashes --no-deps --requirement
WORKERS ?= 2
# The tests that start no process of the service.
QUICK := $(wildcard $(addprefix tests/,arch blobs conformance engine model testing wire worker))

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: .venv/.package  ## Make .venv with everything pinned and the package in it; quick when nothing changed

check: setup static-checks  ## Lint, types, import contracts, the quick tests over SQLite: under a minute
	$(BIN)/pytest $(QUICK) -m "not slow" -k "not postgres" --hypothesis-profile quick --quiet --numprocesses $(WORKERS)

test: setup  ## Every check and every test there is, PostgreSQL included
	@code=0; \
	$(MAKE) --keep-going --jobs 2 --output-sync static-checks debian-tests || code=$$?; \
	$(MAKE) all-tests || code=$$?; \
	exit $$code

explore: setup  ## Try the property tests and state machines with new random examples, for ten minutes
	$(BIN)/pytest -m hypothesis --hypothesis-profile explore --timeout 1200 --quiet --numprocesses $(WORKERS) --dist loadgroup

demo: setup  ## Start the service, run real jobs on real data, show what became of them
	$(BIN)/python -m demo

bench: setup  ## Measure the service against the hardware and its peers, on this machine
	$(BIN)/python bench/run.py

chaos: setup  ## Kill everything under load, see what holds; KILLS= JOBS= SEED= STORE= RESTARTS= PARTITIONS=
	$(BIN)/python -m tests.chaos $(foreach option,KILLS JOBS SEED STORE RESTARTS PARTITIONS,$(call chaos-option,$(option)))

proto: setup  ## Generate the code of the wire from proto/
	$(BIN)/python tools/proto.py

lock: setup  ## Choose the newest versions that pyproject.toml allows, and pin them in requirements/
	$(PIP_HASHED) requirements/lock.txt
	$(call pin,dev,pyproject.toml --extra server --group dev)
	$(call pin,build,--group build)
	$(call pin,lock,--group lock)
	$(call pin,peers,--group peers)

fmt: setup  ## Format the code and put its imports in order
	$(BIN)/ruff check --quiet --fix-only --select I,RUF022
	$(BIN)/ruff format --quiet

clean:  ## Remove what was made here: .venv, caches, build/; not what the demo made, demo-data/
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the commands above are made of ----------------------------------------------------------

# Debian keeps ensurepip in a package of its own; without it, the host's pip fills the environment.
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "JobService needs CPython 3.11 as python3.11 or python3." >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv && $(PYTHON) -m venv --without-pip .venv && \
		$(PYTHON) -m pip --python .venv/bin/python --quiet install pip; }

.venv/.requirements: requirements/build.txt requirements/dev.txt | .venv/bin/python
	$(PIP_HASHED) requirements/build.txt
	$(PIP_HASHED) requirements/dev.txt
	@touch $@

.venv/.package: pyproject.toml .venv/.requirements
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: static-checks all-tests debian-tests pgbouncer
# A program of Debian that tests run against; with new lists where the old ones do not do.
APT := DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get --yes --quiet --no-install-recommends
pgbouncer:
	@test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || \
		{ test "$$(id -u)" = 0 && { $(APT) install pgbouncer || { $(APT) update && $(APT) install pgbouncer; }; }; } || \
		{ echo "The tests need PgBouncer: apt-get install pgbouncer, as root." >&2; exit 1; }

static-checks: setup
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/python tools/proto.py --check
	$(BIN)/lint-imports --no-logo

all-tests: setup pgbouncer
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup

# `KILLS=50` becomes `--kills 50`.
chaos-option = $(if $($(1)),--$(shell echo $(1) | tr A-Z a-z) $($(1)))

# The PostgreSQL store over Debian's PostgreSQL 15, but not its plans: those that are kept are of 18, and 15
# sorts and joins otherwise. Nor the tests that kill a server, which have one of their own, nor the pairs of all
# that may happen, which are about the verbs.
debian-tests: setup
	$(BIN)/python -m tests.debian_postgres $(BIN)/pytest tests/conformance tests/machine tests/store \
		-k "(postgres or Postgres) and not plans and not crash and not pairs" --hypothesis-profile quick --quiet \
		--numprocesses $(WORKERS) --dist loadgroup

define pin
$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" --python-version 3.11 $(2) --output-file requirements/$(1).txt
endef
