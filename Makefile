# The vocabulary of the project. `make help` lists it.
#
# Everything is installed into .venv from hash-locked requirements; stamp files in it make a second `make` quick.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What `make run` asks, of whom, and with which model of `wherry models list`.
MODEL ?= qwen2.5-coder-1.5b
CREW ?= examples/crew/crew.py:make_crew
TASK ?= What is the population of Norway, and what is the smallest prime factor of that number? Save both numbers in the memo under 'norway'.

# What the tests run on: the smallest model for the mechanics of the embedded server, a better one for behaviour.
TEST_MODELS ?= smollm2-135m qwen2.5-coder-0.5b
PYTEST_ARGS ?=
# One more than there are processors: tests mostly wait for processes that they started.
WORKERS ?= $(shell expr $$(nproc) + 1)

PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --custom-compile-command "make lock" pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run test test-fast check format bench docs lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## set up what is needed, then run the example crew on the embedded model
	@$(BIN)/wherry models pull $(MODEL)
	@$(BIN)/wherry run "$(TASK)" --agent $(CREW) --model local:$(MODEL)

test: $(VENV)/.dev  ## set up what is needed, then run all tests
	@for model in $(TEST_MODELS); do $(BIN)/wherry models pull $$model || exit 1; done
	@$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-fast: $(VENV)/.dev  ## the tests that need no model, no server and no time
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not local_model and not services and not bench" $(PYTEST_ARGS)

check: $(VENV)/.dev  ## lint, formatting, types, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## mend what the linter can mend, then format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On a real model they run for long: these are called by hand.
SLOW_BENCHMARKS := benchmarks/local_model.py benchmarks/facts.py benchmarks/hysteresis.py

bench: $(VENV)/.dev  ## print the numbers of benchmarks/, but for those on a real model
	@for file in $(filter-out $(SLOW_BENCHMARKS),$(wildcard benchmarks/*.py)); do \
		echo "== $$file"; $(BIN)/python $$file || exit 1; done
	@echo "== 5,000 random conversations against the context bound"; $(BIN)/python -m pytest -m bench tests/context

docs: $(VENV)/.dev  ## check the documentation: every link resolves, every code block runs
	$(BIN)/python -m pytest tests/test_docs.py

lock: $(BIN)/uv  ## write the lock files anew from pyproject.toml (UPGRADE=--upgrade for the newest versions)
	$(LOCK) $(UPGRADE) --extra guard --extra openai --extra local --extra web --extra mcp --extra wasm --extra monty \
		--group dev --group example --group build --output-file requirements/dev.txt
	$(LOCK) $(UPGRADE) --extra local --group example --group build --constraints requirements/dev.txt \
		--output-file requirements/run.txt

clean:  ## remove .venv and what the tools left
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "wherry needs CPython 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)"; \
		echo "Name another one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "'$(PYTHON) -m venv' failed; Debian and Ubuntu keep it in the package python3-venv"; exit 1; }

$(BIN)/uv: | $(BIN)/python
	$(PIP) install --quiet uv

# The build backend is in the lock files: no build isolation means that nothing comes in without a hash.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@
