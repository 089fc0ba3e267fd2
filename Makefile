# make demo       three workers on this machine, a C++ tree compiled through them, one worker killed on the way
# make test       what a change must pass: real compilers, real sandboxes, real processes
# make test-full  the whole matrices, whole trees and long counts
# make chaos      builds under random faults: make chaos SECONDS=120 SEED=7 (as root)
# make lint       style, format, types, and the walls between rooms
# make docs       docs/configuration.md, docs/events.md, docs/reasons.md and the bounds in docs/security.md, out of the code

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-full chaos lint docs format clean

demo: .venv/.run
	@$(BIN)/python examples/demo.py $(ARGS)

test: .venv/.tests
	@.ci/tests $(ARGS)

test-full: .venv/.tests
	$(BIN)/python -m pytest -q --hypothesis-profile=drawn $(ARGS)

chaos: .venv/.tests
	@PYTHONPATH=tests $(BIN)/python -m support.farm.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

lint: .venv/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.run
	$(BIN)/python -m sccache_twisted.config.reference docs
	$(BIN)/python -m sccache_twisted.logs.reference docs
	$(BIN)/python -m sccache_twisted.compilers.reference docs

.venv/.run: setup.cfg pyproject.toml .ci/bootstrap
	@PYTHON=$(PYTHON) .ci/bootstrap
	@touch $@

.venv/.tests: setup.cfg pyproject.toml .ci/bootstrap
	@PYTHON=$(PYTHON) .ci/bootstrap --tests
	@touch $@ .venv/.run

clean:
	rm -rf .venv .demo .trees build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache
	find sccache_twisted tests twisted -name __pycache__ -type d -prune -exec rm -rf {} +
