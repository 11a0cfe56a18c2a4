# Two commands do everything on a fresh machine: `make pipeline` and `make test`.
#
#   make pipeline PRESET=flickr8k DATA=/path/to/Flickr8k
#   make pipeline SET='trainer.epochs=3 decoding.beam_size=5'
#   make test TESTS='tests/ingestion -k kaggle'

SHELL := bash
PRESET ?= sample
DATA ?=
SET ?=
TESTS ?=
# Processes of `make test`; each may take 4 GiB.
JOBS ?= 2

UV := scripts/uv
RUN := $(UV) run --quiet --no-sync
# What the pipeline needs, and what the tests need besides.
PIPELINE_EXTRAS := --extra pipeline --extra lite2 --extra coco --extra client --extra server
TEST_EXTRAS := --all-extras --group dev

.PHONY: help pipeline test lint format bench serve clean setup setup-dev

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup:
	@$(UV) sync --frozen --inexact --no-default-groups $(PIPELINE_EXTRAS)

setup-dev:
	@$(UV) sync --frozen $(TEST_EXTRAS)

pipeline: setup  ## Set up and run the whole pipeline (PRESET=, DATA=, SET=)
	@$(RUN) captioner run $(PRESET) $(if $(DATA),--data '$(DATA)') $(foreach pair,$(SET),--set '$(pair)')

test: setup-dev  ## Set up and run the tests (TESTS=)
	@$(RUN) pytest $(or $(TESTS),-n $(JOBS) --dist loadfile --no-loadscope-reorder)

lint: setup-dev  ## Check style and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports --no-cache >/dev/null || $(RUN) lint-imports --no-cache

format: setup-dev  ## Rewrite to the house style
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

bench: setup-dev  ## Run the quick benchmarks, each against its baseline
	@for script in bench/[a-z]*.py; do \
	  module=bench.$$(basename $$script .py); echo "== $$module"; \
	  $(RUN) python -m $$module || exit 1; \
	done

serve:  ## Serve what was pushed last
	@$(RUN) captioner serve

clean:  ## Remove runs, caches and the environment
	rm -rf runs .venv .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
