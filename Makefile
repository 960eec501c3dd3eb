# Thin: every target is a command or two that can be typed by hand. `make` alone lists them.
# The environment is .venv: the packages of environment.yml and what they need, by pip, from the
# lock with hashes. An active conda environment called facelib, or FACELIB_PYTHON=/a/python, or
# `make PYTHON=python TARGET`, is used instead.
ifdef FACELIB_PYTHON
PYTHON ?= $(FACELIB_PYTHON)
endif
ifeq ($(CONDA_DEFAULT_ENV),facelib)
PYTHON ?= python
endif
PYTHON ?= .venv/bin/python

export PYTHONPATH := $(CURDIR)
LINT_IMPORTS := $(PYTHON) -c "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
LOCK := .lock/requirements.txt
PINS := sed -n '/- pip:/,$$ s/^ *- \([^ \#]*==[^\#]*\).*/\1/p' environment.yml
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=1200

.PHONY: help setup study pdf check test gpu fuzz kill mutants lab bench outputs lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

ifeq ($(PYTHON),.venv/bin/python)
setup: .venv/.ready  ## the environment: .venv from the lock (at once when it is there)
else
setup:
	@$(PYTHON) -m facelib doctor --packages
endif

ifneq ($(shell cat .venv/.ready 2>/dev/null),$(CURDIR))
.PHONY: .venv/.ready  # a moved or copied checkout: installed again, from what is there
endif
.venv/.ready: environment.yml $(LOCK) pyproject.toml
	@$(PINS) | tr A-Z_ a-z- | while read -r pin rest; do grep -q "^$$pin " $(LOCK) || \
	  { echo "setup: $$pin of environment.yml is not in $(LOCK): make lock" >&2; exit 2; }; done
	@! .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] == (3, 11))' 2>/dev/null || \
	  { echo "setup: .venv is of another Python than 3.11: rm -r .venv, then make setup" >&2; exit 2; }
	@.venv/bin/python -c '' 2>/dev/null || broken=--clear; \
	for python in python3.11 python3 $(HOME)/.pyenv/versions/3.11*/bin/python; do \
	  "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' \
	  2>/dev/null && exec "$$python" -m venv $$broken .venv; done; \
	echo "setup: no Python 3.11 with venv found:\
	 install it (apt-get install python3.11 python3.11-venv, brew install python@3.11, or\
	 pyenv install 3.11), or use conda: conda env create -f environment.yml" >&2; exit 2
	@echo "Installing into .venv: 4 GB to download, 8 GB on disk, 3 to 8 minutes; then at once."
	@.venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
	  --require-hashes --only-binary :all: -r $(LOCK) || { echo "setup: pip failed; again: make setup.\
	 The lock is for Linux (x86_64, aarch64) and macOS 14 or newer (arm64);\
	 elsewhere use conda: conda env create -f environment.yml" >&2; exit 2; }
	@.venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
	@echo "$(CURDIR)" > $@

study: setup  ## set up, make the rendered faces, run the notebooks, build the HTML site
	@$(PYTHON) -m facelib study $(ARGS)

pdf: setup  ## the executed notebooks, records and API as one PDF (needs Chromium or Chrome)
	@$(PYTHON) -m facelib report --pdf

check: setup  ## the inner loop, two minutes: style, import contract, tests that are not slow
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(LINT_IMPORTS)
	$(PYTHON) -m pytest -n 2 --dist worksteal -m "not slow"

test: setup  ## set up, style, tests with the papermill gate, the notebooks' outputs (nbval)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(LINT_IMPORTS)
	$(PYTHON) -m pytest -n 2 --dist loadfile
	$(PYTHON) -m pytest -n 2 --dist loadfile $(NBVAL) notebooks

gpu: setup  ## what a GPU computes against a CPU; skipped in one line without CUDA
	$(PYTHON) -m pytest -m gpu -rs tests/gpu $(ARGS)

fuzz: setup  ## mutated files over every reader (ARGS="--inputs 100000 --seed 1"); minutes to hours
	@$(PYTHON) -m tests.faults.fuzz $(ARGS)

lab: setup  ## JupyterLab in notebooks/; its root is here, so that links lead to files of runs
	$(PYTHON) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

bench: setup  ## every benchmark of tests/bench; figures into runs/bench.json
	$(PYTHON) tests/bench/run_all.py

kill: setup  ## killed and resumed trainings: ARGS="--kills 300 --seed 0 --out FOLDER"
	$(PYTHON) -m tests.faults.kill $(ARGS)

outputs: setup  ## execute the notebooks with their defaults and write their outputs into them
	$(PYTHON) -m facelib.runner.notebooks $(ARGS)

mutants: setup  ## small changes of the code: which do the tests see? ARGS="--modules metrics/scores"
	$(PYTHON) -m tests.mutants $(ARGS)

# uv resolves for every platform at once and keeps the versions of the lock that still fit.
lock:  ## .lock: all packages with hashes, parts list (SBOM); newer versions: make lock ARGS=--upgrade
	python3 -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install -q uv==0.13.8 cyclonedx-bom==7.5.0
	$(PINS) | .venv-lock/bin/uv pip compile - -q -o $(LOCK) --universal --python-version 3.11 \
	  --only-binary :all: --generate-hashes --default-index https://pypi.org/simple \
	  --no-annotate --custom-compile-command "make lock" $(ARGS) >/dev/null
	sed -n 's/ ;.*//p' $(LOCK) | .venv-lock/bin/cyclonedx-py requirements - \
	  --pyproject pyproject.toml --output-reproducible -o .lock/sbom.cdx.json
	rm -r .venv-lock

clean:  ## remove executed notebooks, the site and caches; keep data, runs and .venv
	rm -rf runs/notebooks runs/site .data/checks .pytest_cache .ruff_cache .import_linter_cache
	find facelib tests notebooks -name __pycache__ -prune -exec rm -rf {} +
