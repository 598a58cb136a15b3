# llm-tui: `make run` opens the app, `make test` runs the tests. Both need Python 3.11+ and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-faults check lint format language types contracts clean
.PHONY: bench bench-corpus bench-energy bench-engine bench-footprint bench-loss bench-safety bench-telemetry bench-tui

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## set up on the first call, then open the app (plain lines where there is no terminal)
	@$(BIN)/llm-tui $(ARGS)

test: $(VENV)/.installed-dev ## set up on the first call, then run the tests
	@$(BIN)/python -m pytest -n 2 $(ARGS)

test-faults: $(VENV)/.installed-dev ## hang-ups, kills, full disks, bad bytes: the faults that take longer (20 minutes)
	@$(BIN)/python -m pytest -m faults $(ARGS)

check: $(VENV)/.installed-dev lint types contracts ## what CI runs: lint, types, import contracts, tests
	@$(MAKE) --no-print-directory test

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/.installed-dev ## format the code and sort its imports
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

language: $(VENV)/.installed-dev ## bring the catalogue of translations up to the texts, and compile it
	@$(BIN)/python -m tests.catalogue

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

contracts: $(VENV)/.installed-dev
	@$(BIN)/lint-imports

bench: bench-energy bench-telemetry bench-tui bench-engine bench-footprint bench-loss bench-corpus bench-safety ## every measurement behind docs/LOG.md, on this machine

bench-corpus: $(VENV)/.installed-dev ## tokenizing beside tokenizers' own batch encoding, and its memory under a limit
	@$(BIN)/python -m bench.corpus rate $(ARGS)
	@$(BIN)/python -m bench.corpus memory 400 256

bench-energy: $(VENV)/.installed-bench ## error of the GPU's energy against a known truth, beside Zeus and CodeCarbon
	@$(BIN)/python -m bench.energy $(ARGS)

bench-engine: $(VENV)/.installed-bench ## tokens a second of the training step beside Hugging Face, litgpt and a plain loop
	@$(BIN)/python -m bench.engine $(ARGS)

bench-footprint: $(VENV)/.installed-dev ## the memory formula against every tensor of a training step (an hour)
	@$(BIN)/python -m bench.footprint $(ARGS)

bench-loss: $(VENV)/.installed-bench ## tokens and time to a validation loss, beside Hugging Face's Trainer with AdamW (half an hour)
	@$(BIN)/python -m bench.loss $(ARGS)

bench-safety: $(VENV)/.installed-dev ## what a checkpoint's safety costs, and what a kill costs
	@$(BIN)/python -m bench.safety $(ARGS)

bench-telemetry: $(VENV)/.installed-bench ## what watching costs of a core, beside Zeus and CodeCarbon
	@$(BIN)/python -m bench.telemetry $(ARGS)

bench-tui: $(VENV)/.installed-dev ## the app at its terminal: first screen, bytes, processor, keys, a stalled line (8 min)
	@$(BIN)/python -m bench.terminal $(ARGS)

clean: ## remove the environment and what tools left behind; never runs or ledgers
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'llm-tui needs Python 3.11 or newer; name one with: make run PYTHON=python3.11' >&2; exit 2; }
	@echo 'Setting up $(VENV) (once; the first call downloads torch) ...' >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo 'Python came without venv. On Debian and Ubuntu: apt install python3-venv' >&2; exit 2; }
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	@$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.created pyproject.toml
	@$(PIP) install -e '.[dev,bench]'
	@$(PIP) install --no-deps 'litgpt>=0.5.13,<0.6' # its limit on huggingface-hub shuts transformers 5 out
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed
