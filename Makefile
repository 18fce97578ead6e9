# Everything runs in .venv, which the first target that needs it makes.  PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
POLICIES ?= static,dynamic,multibin

.PHONY: compare test test-integrations lint bench clean

compare: $(VENV)/.run
	$(BIN)/python eval/compare.py --policies $(POLICIES) $(ARGS)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

# Stable-Baselines3 in an environment of its own; TORCH says which build (the default is the small one for CPUs).
TORCH ?= torch==2.13.0
test-integrations: .venv-sb3/.done
	.venv-sb3/bin/python -m pytest tests/integrations

.venv-sb3/.done: pyproject.toml
	$(PYTHON) -m venv .venv-sb3
	.venv-sb3/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	.venv-sb3/bin/python -m pip install --quiet --disable-pip-version-check -e '.[train,plots]' pytest rl_zoo3
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.run
	$(BIN)/python eval/bench.py $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[plots]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
