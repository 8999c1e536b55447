# Windlass. `make help` lists what there is. Recipes quote every path: the folder may have spaces in its name.

VENV ?= .venv
# Which Python makes the virtual environment; empty: the lowest one from 3.11 on.
PYTHON ?=
# More arguments for pytest, e.g. make test ARGS="tests/core -x"
ARGS ?=
# How many simulated clusters, or which one
SEEDS ?= 10000
SEED ?=
JOBS ?=
# A file that notes what failed and then passed alone; empty: nothing that failed runs again
SECOND_LOOK ?=
# Which test `make hunt` runs, and how often
TEST ?=
TIMES ?= 50
BIN = "$(VENV)/bin"

.PHONY: help install install-dev demo test hunt check docs sim bench bench-check lock
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: ## make .venv with windlass in it
	@sh scripts/install.sh "$(VENV)" "$(PYTHON)" requirements.lock requirements-dev.lock

install-dev: ## the same with what tests and checks need
	@sh scripts/install.sh "$(VENV)" "$(PYTHON)" requirements-dev.lock

demo: install ## start everything, run the examples as real jobs, stop everything
	@$(BIN)/python examples/demo.py

test: install-dev ## run the whole test suite, in three steps
	@$(BIN)/python -m tests $(if $(SECOND_LOOK),--second-look "$(SECOND_LOOK)") $(ARGS)

hunt: install-dev ## run one TEST beside busy loops until it fails, TIMES=50 at most
	@$(BIN)/python -m tests.hunt "$(TEST)" $(TIMES)

check: install-dev ## lint, format, types, layers, file sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	@echo "files over 300 lines:"; find src tests bench examples -name '*.py' -exec wc -l {} + | awk '$$1 > 300 && $$2 != "total"'

docs: install-dev ## write the documents that are made from the code
	@$(BIN)/python -m tests.house.documents
	@$(BIN)/python -m scripts.dashboards
	@$(BIN)/python -m scripts.manifests

sim: install-dev ## simulate whole clusters, SEEDS=10000 of them; SEED=n tells one again, JOBS= processes
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

bench: install ## measure, against peers in the same run
	@$(BIN)/python -m bench

bench-check: install ## hold measured ratios to the promised ones, in bench/promises.py
	@$(BIN)/python -m bench --check

lock: install ## renew the lock files from pyproject.toml
	@sh scripts/lock.sh "$(VENV)"
