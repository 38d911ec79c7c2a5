# `make run` and `make test` each need nothing but a Python of 3.11 or later.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_VERSION := 26.3
WORKERS ?= 2
PYTHON ?=
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help run test lint types docs format bench mutants reference messages constraints

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/installed ## Explain the embedded case; ARGS="--samples 5" adds options
	$(BIN)/segxai run --plugin ms_lesion $(ARGS)

test: $(VENV)/installed-dev ## All tests, in WORKERS=2 processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/installed-all ## Style, types, layers, pinned versions, documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/constraints.py --check
	$(BIN)/mkdocs build --quiet --strict

types: $(VENV)/installed-dev ## Types only
	$(BIN)/mypy

docs: $(VENV)/installed-dev ## The documentation as a website, in site/
	$(BIN)/mkdocs build --quiet --strict
	@echo "open site/index.html"

format: $(VENV)/installed-dev ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/installed-bench ## Every script in benchmarks/, with its defaults: some 15 minutes
	@for script in benchmarks/*.py; do \
	  echo "== $$script"; $(BIN)/python "$$script" || exit 1; \
	done

mutants: $(VENV)/installed-all ## Single changes, and which of them tests notice: hours, goes on where it was
	nice -n 19 $(BIN)/python .ci/mutants.py $(ARGS)

reference: $(VENV)/installed-dev ## Write docs/reference/cli.md from the command line's help
	$(BIN)/python .ci/cli_reference.py docs/reference/cli.md

messages: $(VENV)/installed-dev ## Write tests/messages.txt: all errors and warnings, to be read in one place
	$(BIN)/python .ci/messages.py tests/messages.txt

constraints: $(VENV)/installed-all ## Pin the versions that are installed now
	$(BIN)/python .ci/constraints.py > constraints.new
	mv constraints.new constraints.txt
	touch $(VENV)/installed $(VENV)/installed-dev $(VENV)/installed-bench $(VENV)/installed-all

# The first of these that runs and is new enough makes the environment.
$(VENV)/installed: pyproject.toml constraints.txt
	@for python in "$(PYTHON)" $(BIN)/python python3 python3.13 python3.12 python3.11; do \
	  if [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "segxai needs Python 3.11 or later and found none: install it, or say where it is:" >&2; \
	  echo "  make $(or $(MAKECMDGOALS),run) PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	if [ "$$found" != "$(BIN)/python" ]; then \
	  echo "making $(VENV) with $$("$$found" --version); PyTorch is large, this happens once"; \
	  "$$found" -m venv $(VENV); \
	fi
	$(PIP) install --quiet pip==$(PIP_VERSION)
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	$(PIP) install --constraint constraints.txt --group bench
	@touch $@

$(VENV)/installed-all: $(VENV)/installed-bench
	$(PIP) install --constraint constraints.txt --group mutants
	@touch $@
