# make demo: install, segment generated scenes, show what the CRF gains.  make test: install, lint, type-check, test.
# make slow: the tests that each start whole runs of the jobs.
# make sanitize: the CRF's compiled core under AddressSanitizer and UBSan; its kernels for GPUs, compiled for one.
# make chaos: break what can break, for an hour or more.  make fuzz: read a hundred thousand damaged files and odd inputs.
# make exports: read exports with Label Studio's SDK, FiftyOne, Datumaro and an older datasets, which takes 2 GB in .tools/.
# make docs: build the documents' site into site/, with pages of the functions in Python.
# make wheel: build the wheel into dist/, and try what is in it.
# make benchmarks: see that each benchmark runs, over a handful of images.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := setup.py $(wildcard pipeline/refine/crf/core/*)
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable
# threads of two processes that wait for the same two cores spin, and take several times as long; a test that hangs
# fails after its time, in seconds, and shows where each of its threads is
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --timeout 900

.PHONY: install demo test slow sanitize chaos fuzz benchmarks exports docs wheel lint clean

install: $(VENV)/.installed

demo: install
	$(BIN)/deeplab-buckets demo

test: $(VENV)/.installed-test lint
	$(PYTEST)

slow: $(VENV)/.installed-test
	$(PYTEST) -m "slow and not long"

sanitize: $(VENV)/.installed-test
	$(BIN)/python tests/refine/sanitize.py
	$(BIN)/python -m pytest -m long tests/refine/test_cuda_crf.py

chaos: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "long or not long" tests/chaos tests/integration/test_multi_host.py \
		tests/integration/test_train.py tests/infra/test_docker.py
	$(BIN)/python -m pytest -m long tests/integration/test_job_entry.py tests/integration/test_adapters.py \
		tests/infra/test_nightly.py
	$(BIN)/python -m tests.chaos.random_kills

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m long tests/test_fuzz.py tests/test_fuzz_inputs.py

benchmarks: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "long or not long" tests/test_benchmarks.py tests/integration/test_train.py \
		tests/test_gpu_benchmark.py tests/test_train_alone_benchmark.py -k "benchmark"

exports: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m long tests/exports/test_tools.py

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(VENV)/.installed-test
	rm -rf build # setuptools would put what lies there into the wheel
	$(BIN)/python -m build --wheel
	$(BIN)/python -m pytest -m "long or not long" tests/test_wheel.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .tools demo-output build dist site

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, this is %d.%d; call: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml requirements.lock $(CORE)
	$(INSTALL) .
	touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml requirements.lock $(CORE)
	$(INSTALL) '.[test]'
	touch $@ $(VENV)/.installed
