# What there is to do in a clone, one name each; `make` lists the names.

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup test test-fast lint types bench docs

help: ## List these names
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

setup: ## Set smartc up in .venv, with the tools of all that follows
	sh tests/setup.sh test,tvm,bench,docs

test: ## Run all tests
	sh tests/run.sh

test-fast: ## Run the tests that are not marked slow
	sh tests/run.sh -m "not slow"

lint: ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy reads packages by their import names, so it gets them laid out as they are installed.
types: ## Check types
	rm -rf build/typecheck
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/typecheck .
	$(BIN)/mypy --config-file pyproject.toml build/typecheck/smartc

bench: ## Time what masks add to a training step, and the differentiable top-k
	$(BIN)/python benchmarks/mask_overhead.py
	$(BIN)/python benchmarks/soft_top_k.py

docs: ## Build the documentation into build/docs; a warning is an error
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --nitpicky --quiet docs build/docs
