# make run and make test are all the set-up there is.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SHELL  := bash
.SHELLFLAGS := -o pipefail -c
# Of what pip says: a line a package.
PIP_LINES := sed -u -n 's/^ *Collecting \([^ ]*\).*/  \1/p; s/^Installing collected.*/  installing (a minute or two)/p'

.PHONY: help env run test test-gpu gpu-parcel check docs results page bench wheel clean

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(READY)  ## Make the environment in .venv

# torch first: its version is pinned in constraints.txt, so that plain pip takes what every later package accepts.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "PyTorch:"
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install torch==$$(sed -n 's/^torch==//p' constraints.txt) | $(PIP_LINES)
	@echo "recsys_lt and what it needs:"
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install -e '.[dev,docs]' | $(PIP_LINES)
	touch $@

run: $(READY)  ## Fetch MovieLens-100K, train SASRec with cross-entropy, print the table
	$(BIN)/python -m recsys_lt

# A process a core; the files in their order, as the long ones stand before many short ones.
test: $(READY)  ## All tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-gpu: $(READY)  ## What a GPU computes against what the processor does, on a machine with one
	RECSYS_LT_TEST_GPU=1 $(BIN)/python -m pytest tests/gpu -rs

gpu-parcel: $(READY)  ## What travels to a borrowed machine with a GPU (docs/gpu_hour.md)
	$(BIN)/python studies/gpu_day/day.py parcel

check: $(READY)  ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Any warning ends the build: a link to a page or heading that is not there, a page that no menu names.
docs: $(READY)  ## Build the documentation in build/site
	$(BIN)/python docs/reference/generate.py
	$(BIN)/zensical build --clean --strict

results: $(READY)  ## Work through the published runs; stop and start again at will
	$(BIN)/python studies/published/run_cells.py
	$(BIN)/python studies/long_tail/tune.py
	for dataset in ml-100k beauty yelp ml-1m; do $(BIN)/python -m recsys_lt +experiment=grid dataset=$$dataset || exit 1; done
	$(MAKE) page

page: $(READY)  ## Make docs/results.md, docs/statistics.md, docs/long_tail.md and docs/figures from the kept runs
	$(BIN)/python studies/published/page.py
	$(BIN)/python studies/calibration/calibration.py
	$(BIN)/python studies/long_tail/page.py
	$(BIN)/python studies/ce_sce/figures.py

bench: $(READY)  ## Seconds an epoch against the floor, one line a measurement
	$(BIN)/python studies/speed/bench.py

wheel: $(READY)  ## Build the wheel (conf/ travels in it)
	$(BIN)/python -m build --wheel

clean:  ## Remove the environment and caches; keeps outputs/ and multirun/
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
