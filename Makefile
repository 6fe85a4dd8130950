PYTHON ?= python3
WORKERS ?= 4
LONGEST_FIRST := tests/e2e tests/integration tests/contract tests/simulation tests/unit
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet
COVERAGE := $(BIN)/coverage
SIDE_BY_SIDE := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
OF_NO_VERSION := stream/test_histories.py stream/test_lineage.py torture \
	$(patsubst %,test_%.py,collection dependencies layers names promises troubleshooting words)
NODE_MODULES := local/node_modules/.package-lock.json
# Programs that import Airflow are started by the dozen: its modules are compiled once, not by each of them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup lint types unit integration e2e coverage test slow benchtest torture simulate mutants reset install celery browser demo bench connector5 pythons docs lowest lock dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .venv-fakesnow/.ready $(NODE_MODULES) ## Install everything into this folder

lint: .venv/.ready ## Check style, and that imports point downwards
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache

types: .venv/.ready ## Check types
	$(BIN)/mypy

unit: .venv/.ready ## Run the tests that need no services
	$(BIN)/python -m pytest tests/unit

integration: setup ## Run the tests against local services, but for the slow ones
	$(BIN)/python -m pytest tests/contract tests/integration

e2e: setup ## Run the tests with a whole Airflow
	$(BIN)/python -m pytest tests/e2e

coverage: .venv/.ready ## See that tests without a service reach 95 % of the engine and of the commit protocol
	$(COVERAGE) erase
	$(COVERAGE) run -m pytest $(addprefix tests/unit/,engine hooks sinks sources state)
	$(COVERAGE) run -m pytest tests/contract tests/integration/hooks/test_checkpoint.py -k "in_memory or moto or toys"
	PYTHONHASHSEED=0 $(COVERAGE) run -m tests.simulation --histories 1000
	$(COVERAGE) combine --quiet
	$(COVERAGE) report --include "*/engine/*"
	$(COVERAGE) report --omit "*/engine/*"

test: setup lint ## Check style, types and layers, and run all tests that are quick, on WORKERS processes side by side
	$(BIN)/mypy & types=$$!; \
		$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(LONGEST_FIRST); tests=$$?; \
		wait $$types && exit $$tests

slow: setup ## Run the tests against local services that take seconds each: faults, reshards, takeovers
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/integration -m slow

benchtest: setup ## See that the benchmark runs, on a tiny input
	$(BIN)/python -m pytest tests/integration -m benchmark

torture: setup ## Kill 200 workers, pause 50, and look whether anything got lost, with each sink; takes half an hour
	$(BIN)/python -m tests.torture --kills 200 --pauses 50
	$(BIN)/python -m tests.torture --kills 200 --pauses 50 --sink streaming

simulate: .venv/.ready ## Run drains through simulated histories for a minute, whatever may happen in them
	$(BIN)/python -m tests.simulation

mutants: setup ## Take safeguards away one by one, and see that torture and simulation notice
	PYTHONHASHSEED=0 $(BIN)/python -m pytest --numprocesses 2 tests/torture tests/simulation -m torture

reset: setup ## Reset state and delete tables through the DAGs of a whole Airflow
	$(BIN)/python -m pytest tests/e2e -m reset

install: setup ## Install the wheel beside Airflow 3.1, 3.2 and 3.3, drain once in each, and open the page
	$(BIN)/python -m pytest tests/install -m install

celery: setup .venv/.celery ## Run the tests with Celery workers; needs the Debian packages postgresql and redis-server
	$(BIN)/python -m pytest tests/celery -m celery

browser: setup .venv/.browser .venv-docs/.ready ## Use the monitoring page and the docs with Chromium; needs the Debian package chromium
	$(BIN)/python -m pytest tests/browser -m browser

bench: setup ## Compare speed, memory and calls with others, and measure latency; takes half an hour
	$(BIN)/python -m benchmarks

demo: setup ## Move 27,004 flights from Kinesis to Snowflake with a real Airflow, and check the result
	$(BIN)/python -m local.demo

pythons: .venv/.ready ## Run the unit tests on Python 3.12 and 3.13
	for version in 3.12 3.13; do \
		$(BIN)/uv venv --quiet --clear --python "$$($(BIN)/python -m tests.install.pythons $$version)" .venv-python && \
		$(UV) --python .venv-python --requirements requirements/test.txt --editable . && \
		.venv-python/bin/python -m pytest $(SIDE_BY_SIDE) tests/unit || exit; \
	done

connector5: setup .venv-connector5/.ready ## Run the tests that talk to Snowflake with snowflake-connector-python 5
	PATH="$(CURDIR)/$(BIN):$$PATH" .venv-connector5/bin/python -m pytest $(SIDE_BY_SIDE) -o filterwarnings=default -m "" \
		tests/contract tests/integration/hooks tests/integration/sinks tests/integration/test_faults.py \
		tests/integration/test_local_snowflake.py tests/integration/test_local_streaming.py \
		$(addprefix tests/integration/drain/test_,bad_records.py columns.py drain.py snowflake_faults.py)

docs: .venv-docs/.ready ## Build the documentation site in build/docs; a broken link is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# Warnings aren't errors here: an old Airflow beside younger libraries has some of its own. What looks at this
# repository, or follows rules of Kinesis without any library, is the same with any versions.
lowest: setup .venv-lowest/.ready ## Run unit tests and some others on the lowest versions this package works with
	PATH="$(CURDIR)/$(BIN):$$PATH" .venv-lowest/bin/python -m pytest $(SIDE_BY_SIDE) -o filterwarnings=default \
		$(addprefix --ignore tests/unit/,$(OF_NO_VERSION)) \
		tests/unit tests/integration/drain/test_drain.py tests/integration/operators \
		tests/integration/sensors tests/integration/triggers

lock: $(BIN)/uv ## Resolve the pinned requirements again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate \
		--no-emit-index-url pyproject.toml requirements/test.in --output-file requirements/test.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate \
		--no-emit-index-url --resolution lowest-direct pyproject.toml requirements/lowest.in \
		--output-file requirements/lowest.txt
	for name in celery browser; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate \
			--no-emit-index-url --constraint requirements/test.txt requirements/$$name.in \
			--output-file requirements/$$name.txt || exit; \
	done
	for name in docs fakesnow node; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate \
			--no-emit-index-url requirements/$$name.in --output-file requirements/$$name.txt || exit; \
	done

dist: $(BIN)/uv ## Build the wheel and the source distribution in dist; REPOSITORY_URL is where the links of the README lead
	$(BIN)/uv build --quiet --out-dir dist

clean: ## Remove everything that setup and the tests made
	rm -rf .venv .venv-connector5 .venv-docs .venv-fakesnow .venv-lowest .venv-python build/docs dist local/node_modules .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv: requirements/uv.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/uv.txt
	touch $@

.venv/.ready: $(BIN)/uv requirements/test.txt pyproject.toml airflow_kinesis_snowflake/__init__.py
	$(UV) --python .venv --requirements requirements/test.txt --editable .
	touch $@

.venv/.celery: .venv/.ready requirements/celery.txt
	$(UV) --python .venv --requirements requirements/celery.txt
	touch $@

# The Snowflake provider wants Snowpark, which wants an older connector, except on Python 3.14. Nothing here uses it.
.venv-connector5/.ready: $(BIN)/uv requirements/test.txt requirements/connector5.txt pyproject.toml
	$(PYTHON) -m venv --without-pip .venv-connector5
	$(UV) --python .venv-connector5 --no-deps --requirements requirements/test.txt --editable .
	$(UV) --python .venv-connector5 --no-deps --requirements requirements/connector5.txt
	touch $@

.venv-lowest/.ready: $(BIN)/uv requirements/lowest.txt pyproject.toml
	$(PYTHON) -m venv --without-pip .venv-lowest
	$(UV) --python .venv-lowest --requirements requirements/lowest.txt
	$(UV) --python .venv-lowest --no-deps --editable .
	touch $@

.venv/.browser: .venv/.ready requirements/browser.txt
	$(UV) --python .venv --requirements requirements/browser.txt
	touch $@

.venv-docs/.ready: $(BIN)/uv requirements/docs.txt
	$(PYTHON) -m venv --without-pip .venv-docs
	$(UV) --python .venv-docs --requirements requirements/docs.txt
	touch $@

.venv-fakesnow/.ready: $(BIN)/uv requirements/fakesnow.txt
	$(PYTHON) -m venv --without-pip .venv-fakesnow
	$(UV) --python .venv-fakesnow --requirements requirements/fakesnow.txt
	touch $@

# Their native modules are never built (--ignore-scripts): the services keep everything in memory.
$(NODE_MODULES): local/package-lock.json requirements/node.txt $(BIN)/uv
	node --eval 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null \
		|| $(UV) --python .venv --requirements requirements/node.txt
	cd local && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@
