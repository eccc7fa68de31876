.PHONY: demo up test lint bench clean

PYTHON ?= python3
# A home of its own for every tool: nothing is installed outside .venv.
LAPTOP := .venv/.laptop
DEV := .venv/.dev

demo: $(LAPTOP)
	@.venv/bin/landfall demo

up: $(LAPTOP)
	@.venv/bin/landfall up

test: $(DEV)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check -q .
	@.venv/bin/mypy
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(DEV)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --config pyproject.toml
	@.venv/bin/mypy

bench: $(DEV)
	@.venv/bin/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .landfall .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Landfall needs Python 3.11 to 3.13, this is %s; try make PYTHON=python3.12" % sys.version.split()[0])'
	@$(PYTHON) -m venv .venv

$(LAPTOP): .venv/bin/python pyproject.toml requirements.txt
	@echo "Installing Landfall into .venv (a minute or two, once)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[laptop]'
	@touch $@

$(DEV): $(LAPTOP)
	@echo "Installing the development tools into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[laptop,dev]'
	@touch $@
