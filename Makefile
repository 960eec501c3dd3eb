# Thin: every target is a command or two that can be typed by hand. `make` alone lists them.
# The environment is .venv, made from environment.yml. An active conda environment called facelib,
# or FACELIB_PYTHON=/a/python, or `make PYTHON=python TARGET`, is used instead.
ifdef FACELIB_PYTHON
PYTHON ?= $(FACELIB_PYTHON)
endif
ifeq ($(CONDA_DEFAULT_ENV),facelib)
PYTHON ?= python
endif
PYTHON ?= .venv/bin/python

export PYTHONPATH := $(CURDIR)
LINT_IMPORTS := $(PYTHON) -c "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=1200

.PHONY: help setup study test lab bench outputs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## the environment: .venv from environment.yml (at once when it is there)
ifeq ($(PYTHON),.venv/bin/python)
	@python3 facelib/setup_env.py
else
	@$(PYTHON) facelib/setup_env.py --here
endif

study: setup  ## set up, make the rendered faces, run the notebooks, build the HTML site
	@$(PYTHON) -m facelib study $(ARGS)

test: setup  ## set up, style, tests with the papermill gate, then the notebooks' outputs (nbval)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(LINT_IMPORTS)
	$(PYTHON) -m pytest -n 2 --dist loadfile
	$(PYTHON) -m pytest $(NBVAL) notebooks

lab: setup  ## JupyterLab in notebooks/
	$(PYTHON) -m jupyterlab --notebook-dir=notebooks

bench: setup  ## every benchmark of tests/bench; figures into runs/bench.json
	$(PYTHON) tests/bench/run_all.py

outputs: setup  ## execute the notebooks with their defaults and write their outputs into them
	$(PYTHON) -m facelib.runner.notebooks $(ARGS)

clean:  ## remove executed notebooks, the site and caches; keep data, runs and .venv
	rm -rf runs/notebooks runs/site .data/checks .pytest_cache .ruff_cache
	find facelib tests notebooks -name __pycache__ -prune -exec rm -rf {} +
