# `make demo` and `make test` install all they need into .venv, on a machine with Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,bench,dev]'
	touch $@

demo: .venv/ready
	$(BIN)/python examples/quickstart.py

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

test-slow: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf .venv out .cache
