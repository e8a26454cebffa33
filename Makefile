# Everything a developer runs, from a fresh clone: `make help`.
# PYTHON=python3.12 chooses the interpreter; ARGS="..." is passed on to the command.

PYTHON ?= python3
# Whole files side by side: tests of one file share what they compile. They begin in the order of
# tests/conftest.py, and not the files of most tests first.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
PINS := requirements/dev.txt
# Two stamps: the pinned packages, then the project itself on top of them. A stamp is written last,
# so an interrupted set-up is simply done again.
PINNED := $(VENV)/.pinned
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train test lint format types check lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED) ## Create .venv from the pinned packages (skipped when up to date)

train: setup ## Train on CartPole, e.g. make train ARGS="--help"
	$(VENV)/bin/muzero train cartpole $(ARGS)

test: setup ## Run the quick tests; make test ARGS="-m slow" runs the others
	$(PY) -m pytest $(PARALLEL) $(ARGS)

lint: setup ## Check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: setup ## Fix style and formatting where that is safe
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: setup ## Check types
	$(PY) -m mypy src

check: ARGS := -m "slow or not slow"
check: test lint types ## Everything a change must pass

lock: ## Renew the pins after a change in pyproject.toml; ARGS=--upgrade takes newer releases too
	@set -eu; \
	if command -v uv >/dev/null 2>&1; then uv=uv; else \
	  tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	  $(PYTHON) -m venv "$$tmp/venv"; "$$tmp/venv/bin/python" -m pip install --quiet uv; \
	  uv="$$tmp/venv/bin/uv"; \
	fi; \
	mkdir -p requirements; \
	"$$uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	  --no-strip-extras --custom-compile-command "make lock" --quiet --output-file $(PINS) $(ARGS)

clean: ## Remove the environment, caches and build outputs (runs/ is kept)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage htmlcov
	find src tests experiments scripts -name __pycache__ -type d -prune -exec rm -rf {} + \
	  2>/dev/null || true

$(PINNED): $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.12" >&2; exit 1; }
	rm -rf $(VENV)
	@set -eu; \
	if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --no-python-downloads --python "$$(command -v $(PYTHON))" $(VENV); \
	  uv pip install --python $(PY) --require-hashes --only-binary :all: -r $(PINS); \
	else \
	  $(PYTHON) -m venv $(VENV); \
	  echo "Installing the packages of $(PINS) with pip: a minute or two"; \
	  $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes \
	    --only-binary :all: -r $(PINS); \
	fi
	@touch $@

$(INSTALLED): $(PINNED) pyproject.toml
	@set -eu; \
	if command -v uv >/dev/null 2>&1; then \
	  uv pip install --python $(PY) --no-deps --no-build-isolation --editable .; \
	else \
	  $(PY) -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@
