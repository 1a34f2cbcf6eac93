# make setup | demo | test | lint | coverage: each does all of its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint coverage clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python scripts/run.py demo --out runs/demo --resume
	$(BIN)/python scripts/run.py demo_scenes --out runs/demo_scenes --resume

test: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: setup
	$(BIN)/python -m pytest --cov --cov-report term:skip-covered

clean:
	rm -rf runs .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
