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

# What people type reaches the shell as environment variables, since text in a recipe would be read
# by make and by the shell: an apostrophe or a `$` in the name of a folder is part of the name.
export CAPTIONER_MAKE_PRESET := $(value PRESET)
export CAPTIONER_MAKE_DATA := $(value DATA)
export CAPTIONER_MAKE_SET := $(value SET)
unexport PRESET DATA SET

UV := scripts/uv
RUN := $(UV) run --quiet --no-sync
# What the pipeline needs, and what the tests need besides.
PIPELINE_EXTRAS := --extra pipeline --extra lite2 --extra coco --extra client --extra server
TEST_EXTRAS := --all-extras --group dev

.PHONY: help pipeline test lint format bench audit outdated serve clean setup setup-dev

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup:
	@$(UV) sync --frozen --inexact --no-default-groups $(PIPELINE_EXTRAS)

setup-dev:
	@$(UV) sync --frozen $(TEST_EXTRAS)

pipeline: setup  ## Set up and run the whole pipeline (PRESET=, DATA=, SET=)
	@arguments=($${CAPTIONER_MAKE_PRESET:+"$$CAPTIONER_MAKE_PRESET"}); \
	if [ -n "$$CAPTIONER_MAKE_DATA" ]; then arguments+=(--data "$$CAPTIONER_MAKE_DATA"); fi; \
	read -r -d '' -a pairs <<<"$$CAPTIONER_MAKE_SET" || true; \
	for pair in "$${pairs[@]}"; do arguments+=(--set "$$pair"); done; \
	$(RUN) captioner run "$${arguments[@]}"

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

audit:  ## Ask the OSV database about every package of the lock file
	@scripts/audit

outdated:  ## List what is locked behind its newest release; SECURITY.md says why
	@set -o pipefail; $(UV) tree --frozen --universal --all-groups --depth 1 --outdated --quiet \
	  | sed -nE 's/^[^a-z]*([^ ]+) v([^ ]+) .*\(latest: v(.*)\)$$/\1 \2 < \3/p' | sort -u

serve:  ## Serve what was pushed last
	@$(RUN) captioner serve

clean:  ## Remove runs, caches and the environment
	rm -rf runs .venv .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
