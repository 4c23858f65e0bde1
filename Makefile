# Two commands on a fresh machine: `make demo` and `make test`. Each builds .venv once and reuses it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check docs clean

demo: .venv/.runtime
	$(BIN)/artmask demo

# A file's tests stay together: they share what takes long to make.
test: .venv/.dev
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The variable silences a notice of mkdocs-material about its own future, which is no warning of the build.
docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv artmask-demo site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "artmask needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[test,dev,docs]'
	@touch $@ .venv/.runtime
