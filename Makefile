# `make demo` and `make test` make their own virtual environment; nothing else has to be set up.
PYTHON ?= python3
VENV ?= .venv
CUDA ?= .cuda
RUN ?= runs/demo

.PHONY: help demo tables test test-fast test-gpu-compile gpu-bench lint clean

help:
	@echo 'make demo    draw scenes, train a small SOGNet on the CPU, evaluate it, leave pictures in $(RUN)/eval'
	@echo "make tables  train the paper's Tables 1 and 2 on the shapes: docs/results.md"
	@echo 'make test    run the tests (make test PYTEST_ARGS="-m slow" for the long ones)'
	@echo 'make test-fast   run those that compile no network, in three minutes'
	@echo 'make test-gpu-compile   compile every kernel for NVIDIA GPUs, without one (GPU_FLAGS=--quick: a minute)'
	@echo 'make gpu-bench   on a machine with a GPU: kernels checked and timed, whole steps timed, in nine minutes'
	@echo 'make lint    check style, types and the layers between the packages'
	@echo 'make clean   remove the environment and the demo'

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(VENV)/bin/pip install --quiet --upgrade -r requirements-dev.txt
	touch $@

# glibc: back arrays with huge pages and keep them between steps, which makes a step on a CPU a fifth faster.
demo tables: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967295:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=536870912
demo: export JAX_COMPILATION_CACHE_DIR ?= $(RUN)/compiled
demo:
	@echo 'This demo needs no download of data and no accelerator. On two CPU cores, in 8 to 13 minutes, it'
	@echo '  1. installs the requirements into $(VENV), if they are not there          (1 to 2 minutes)'
	@echo '  2. draws 3,000 training and 200 validation scenes of overlapping shapes    (half a minute)'
	@echo '  3. trains a small SOGNet on them: configs/shapes.py                        (4 to 10 minutes)'
	@echo '  4. evaluates it on the 200 scenes and draws pictures into $(RUN)/eval    (1 minute)'
	@$(MAKE) --no-print-directory $(VENV)/.installed
	$(VENV)/bin/python train.py --config=configs/shapes.py --workdir=$(RUN)
	$(VENV)/bin/python eval.py --checkpoint=$(RUN)

tables: $(VENV)/.installed
	$(VENV)/bin/python -m benchmarks.tables

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-fast: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -m 'not slow and not compiles' $(PYTEST_ARGS)

# The CUDA plugin of JAX and its compiler, 715 MB, beside the environment: with them in it, JAX would look for a GPU.
$(CUDA)/.installed: $(VENV)/.installed
	rm -rf $(CUDA)
	version=$$($(VENV)/bin/python -c 'import jax; print(jax.__version__)') && \
	$(VENV)/bin/pip install --quiet --no-deps --target $(CUDA) jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version \
		nvidia-nvvm nvidia-cuda-nvcc
	touch $@

test-gpu-compile: $(VENV)/.installed
	@if $(MAKE) --no-print-directory $(CUDA)/.installed; \
	then PYTHONPATH=$(CUDA) $(VENV)/bin/python -m benchmarks.gpu_static $(GPU_FLAGS); \
	else echo 'skipped: the CUDA plugin of this JAX and its compiler cannot be installed here'; fi

# In an environment with jax[cuda13] and, as the peer, torch with CUDA: that of the caller.
gpu-bench:
	$(PYTHON) -m benchmarks.gpu_day --output=benchmarks/results/gpu_$$(date +%F)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) $(CUDA) runs/demo
