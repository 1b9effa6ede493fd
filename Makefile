# Every target sets up .venv first, when it is missing or older than what it is made from: `make demo` with the packages
# that it needs, the site with its own few, the tests with all.
#   PYTHON    the interpreter to make .venv with, 3.11 or later
#   CHROMIUM  a Chromium or Chrome for the tests of pages, where `chromium` is not on the PATH
#   SOURCE    address of the repository, which README's links lead to in the packages of `make dist`
#   ARGS      more arguments, as in: make demo ARGS=--quick

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
CONSTRAINTS := constraints.txt
EXPORTER := ,optimum
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
DEV := $(VENV)/.dev
DOCS := $(VENV)/.docs

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-transformers5 bench gpu results docs dist lint browser clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /make \1\t/' | expand -t 24

demo: $(DEMO) ## teacher, student, int8 export, proof and bench on the embedded data
	$(BIN)/toolkit demo $(ARGS)

test: $(DEV) browser ## all tests but the slow ones; no network needed once set up
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

test-slow: $(DEV) browser ## the long end-to-end tests
	$(BIN)/python -m pytest -m slow $(ARGS)
	$(MAKE) test-transformers5 ARGS=

test-transformers5: ## what depends on transformers, in a .venv5 that has version 5 and no optimum
	$(MAKE) test VENV=.venv5 CONSTRAINTS=constraints-transformers5.txt EXPORTER= \
		ARGS="$(or $(ARGS),tests/export tests/serve $(addprefix tests/toolkit/,compression distillation inference models scoring training))"

bench: $(DEMO) ## measure what `make demo` left in runs/demo against BERT-base
	$(BIN)/toolkit bench runs/demo/int8 --out runs/demo/bench $(ARGS)

gpu: $(DEV) ## measure all that a GPU should prove, in ten minutes
	$(BIN)/python -m benchmarks.gpu $(ARGS)

results: $(DEMO) ## README's results from what `make demo` left in runs/demo
	$(BIN)/python -m benchmarks.publish collect runs/demo
	$(BIN)/python -m benchmarks.publish render

docs: $(DOCS) ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "open site/index.html; with search: python3 -m http.server --directory site"

dist: $(DEV) ## source archive and wheel in dist/, installed alone in new environments and tried
	rm -rf dist
	$(BIN)/python -m release.build --out dist $(if $(SOURCE),--source $(SOURCE))
	DIST=dist $(BIN)/python -m pytest -m slow tests/release $(ARGS)

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .venv5 build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(DEMO) $(DEV) $(DOCS): pyproject.toml $(CONSTRAINTS)
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or later is needed; '$(or $(PYTHON),python3)' is not. Try: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); echo "no virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) \
		-e '.[$(@F:.%=%)$(if $(filter $(DOCS),$@),,$(EXPORTER))]'
	@touch $@ $(if $(filter $(DEV),$@),$(DEMO) $(DOCS))

browser:
	@if [ -n "$$CHROMIUM$$NO_BROWSER" ] || command -v chromium >/dev/null || command -v google-chrome >/dev/null; then \
		exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium for the tests of pages"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null && exit 0; \
	fi; \
	echo "no chromium here, which the tests of pages need: apt-get install chromium, or make test CHROMIUM=/path/to/chrome, or NO_BROWSER=1 to do without" >&2
