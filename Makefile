# Needs make and Python 3.11 or newer; everything else is installed into .venv.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
DEMO := .venv/.installed-all
DEV := .venv/.installed-dev
BENCH := .venv/.installed-bench
# Threads that wait for each other at a barrier would wait for one that died of a fault.
FAULTY := $(BIN)/python -m pytest -n 2 -p tests.faults.functional -k 'not race'
# What every attempt goes through, in the form of each kind of action.
ATTEMPTS := $(patsubst %,tests/runner/test_%.py,atomic_batches cancel_requests chunk eager errors \
	keeper run_again runner session tasks together upcast)

# What meets the most of SQLAlchemy, Alembic, the drivers, click and rich.
ON_FLOORS := tests/docs/test_pages.py $(patsubst %,tests/store/test_%.py,alembic atomic_migrations \
	conformance schema users_checks) $(patsubst %,tests/resource/test_%.py,flush bulk) \
	$(patsubst %,tests/runner/test_%.py,bound bound_edges bound_recipes chunk runner session) \
	tests/cli/test_commands.py
LOWEST := .venv-lowest

.DEFAULT_GOAL := help
.PHONY: help setup demo test floors chaos chaos-short lint fix docs bench bench-peers package clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(DEV) ## Install everything for development into .venv

demo: $(DEMO) ## Run the order example, with options in ARGS='--orders 60'
	@$(BIN)/statejobs demo $(ARGS)

test: $(DEV) ## Run the tests on SQLite and PostgreSQL, or those in ARGS='tests/store'
	$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

floors: $(DEV) ## Try the lowest versions that pyproject.toml allows: the README, then a part of the tests
	rm -rf $(LOWEST)
	$(BIN)/python -m venv $(LOWEST)
	$(BIN)/python -m tests.support.floors > $(LOWEST)/floors.txt
	$(BIN)/python -m tests.support.listing $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/floors.txt .
	cd $(LOWEST) && bin/python listing.py | diff - listing.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/floors.txt '.[all,suite]'
	$(LOWEST)/bin/python -m pytest -n 4 --dist worksteal $(ON_FLOORS)

chaos: $(DEV) ## Break workers and databases at full size, with ARGS='--seed 7 --json FILE'; takes long
	$(BIN)/python -m tests.chaos --size full $(ARGS)
	STATEJOBS_MODEL_EXAMPLES=3000 $(BIN)/python -m pytest -n 2 tests/model
	for rate in 0.01 0.03 0.05; do \
		$(FAULTY) --fault-rate $$rate tests/runner tests/resource tests/store/test_conformance.py || exit 1; done
	for default in default_transaction_isolation=serializable "default_transaction_isolation=repeatable read" \
			lock_timeout=200ms statement_timeout=500ms idle_session_timeout=2s; do \
		$(BIN)/python -m pytest -n 2 -p tests.faults.settings --database-setting "$$default" tests/runner || exit 1; done
	$(BIN)/python -m pytest -n 2 -p tests.faults.settings --pool-size 3 --connection-limit 7 tests/runner

chaos-short: $(DEV) ## The same in a few minutes
	$(BIN)/python -m tests.chaos --size short $(ARGS)
	$(FAULTY) --fault-rate 0.03 $(ATTEMPTS)

lint: $(DEV) ## Check format, style, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: $(DEV) ## Write declared options where they are read; repair format and style where a tool can
	$(BIN)/python -m tests.support.written_options
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(DEV) ## Build the documentation into docs/_build
	$(BIN)/sphinx-build -W -b html docs docs/_build

bench: $(BENCH) ## Measure the speed beside hand-written floors, or some of it: ARGS='W4 W3 --quick'
	$(BIN)/python -m bench $(ARGS)

bench-peers: $(BENCH) ## Measure other libraries beside it, each in its own environment: ARGS='oban huey --quick'
	$(BIN)/python -m bench.peers $(ARGS)

package: $(DEV) ## Build the wheel and try it in an empty environment
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation
	$(BIN)/python -m venv build/empty
	build/empty/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && empty/bin/python -c "import importlib.resources as r, os; os.stat(r.files('statejobs') / 'migrations/env.py')"
	$(BIN)/python -m tests.support.listing build
	cd build && empty/bin/python listing.py | diff - listing.txt
	cd build && empty/bin/statejobs demo --plain --orders 5

clean: ## Remove .venv and whatever the other targets made
	rm -rf .venv $(LOWEST) build dist docs/_build .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEMO): pyproject.toml | $(BIN)/python
	@echo "installing statejobs[all] into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "installing statejobs[dev] into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(DEMO) $@

$(BENCH): pyproject.toml | $(BIN)/python
	@echo "installing statejobs[bench] into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.11 or newer found: install one, or name it with make PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment: install its venv module" \
			"(on Debian and Ubuntu: apt install python3-venv) and repeat."; exit 1; }
