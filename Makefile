# Each target sets itself up: any of them may be the first command typed on a machine with Python 3.11-3.13 and make.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.DEFAULT_GOAL := setup
.PHONY: setup demo demo-private test test-deploy lint bench help

setup: $(READY)  ## set up .venv with the pinned packages (bare `make` does this only)
	@echo "ready: $(BIN)/fedvox --help"

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "fedvox needs Python 3.11, 3.12 or 3.13; none was found (set PYTHON=/path/to/python3.11)"; exit 2; }
	@echo "setting up .venv with $(PYTHON): about 1.5 minutes and 2.5 GB"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)

demo: $(READY)  ## three synthetic hospitals train a 3D ResNet over Flower (about 3 minutes on two cores)
	@$(BIN)/fedvox run experiment=demo

demo-private: $(READY)  ## 3,000 synthetic patients, each of them protected: ε 3.2 (under 15 minutes on two cores)
	@$(BIN)/fedvox run experiment=private_demo

test: $(READY)  ## the whole test suite
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-deploy: $(READY)  ## real coordinators and hospitals as processes on this machine; needs nginx (apt-get install nginx)
	@$(BIN)/python -m pytest tests/deploy -m "slow or deploy"

lint: $(READY)  ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(READY)  ## ratios against named references, measured in the same run; writes bench.json
	@$(BIN)/python -m tests.benchmarks

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
