# `make` or `make help` lists the targets. Everything a target makes lies in this folder: .venv, .cache and build leftovers.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.DELETE_ON_ERROR:

# What may be set on the command line, for example `make test WORKERS=8`.
# Backend and tools to install: cpu or gpu (TensorFlow), jax, dev.
EXTRAS ?= cpu,jax,dev
# Test processes; each of them loads TensorFlow (about 1 GB).
WORKERS ?= 2
# More arguments for pytest, for example ARGS="-k encode".
ARGS ?=
# What `make sweep` runs.
SWEEP ?= sweeps/laptop.toml
# The Python to build .venv with; left empty, the newest suitable one is looked for.
PYTHON ?=

VENV := .venv
PY := $(VENV)/bin/python
COMMA := ,
# The name holds the extras, so that asking for others installs again.
STAMP := $(VENV)/.installed-$(subst $(COMMA),-,$(EXTRAS))

# Nothing outside this folder is written: every cache that our tools keep is told to lie in .cache.
CACHE := $(CURDIR)/.cache
export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR := $(CACHE)/pip
export UV_CACHE_DIR := $(CACHE)/uv
export BACH_CACHE ?= $(CACHE)/bach
export KERAS_HOME := $(CACHE)/keras
export MPLCONFIGDIR := $(CACHE)/matplotlib
export RAY_AUTH_TOKEN_PATH := $(CACHE)/ray/auth_token
export PYRIGHT_PYTHON_CACHE_DIR := $(CACHE)/pyright
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

# Two test processes on two cores: more threads in each would only wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

# A virtual environment holds absolute paths, so one that came along when the folder was moved or copied is made anew.
ifneq ($(wildcard $(VENV)/.made-in),)
ifneq ($(shell cat $(VENV)/.made-in),$(CURDIR))
MOVED := remove-moved-venv
endif
endif

.PHONY: help install test test-fast test-cluster check format bench sweep constraints clean

help:  ## Print the targets, one line each
	@echo "Every target sets up .venv by itself the first time (about a minute, 2.5 GB)."
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)  ## Set up .venv with the package and all tools (EXTRAS=gpu,dev for an NVIDIA GPU)

test: $(STAMP)  ## Run all tests that need no GPU and no cloud (at most 25 minutes on 2 cores)
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist loadscope $(ARGS)

test-fast: $(STAMP)  ## Run the quick tests only (at most 3 minutes on 2 cores)
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist loadscope -m "not slow" $(ARGS)

test-cluster: $(STAMP)  ## Break a real `ray up` cluster in every way, on machines made of namespaces (root, Linux; at most 25 minutes)
	$(PY) -m pytest tests/cluster $(ARGS)

check: $(STAMP)  ## Lint, check the format and the types (ruff, pyright); the tests are `make test`
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

format: $(STAMP)  ## Rewrite the code in the common format and mend what ruff can mend by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(STAMP)  ## Run the benchmarks and print their figures (benchmarks/README.md has the last ones)
	@set -e; for script in $(sort $(wildcard benchmarks/bench_*.py)); do echo "== $$script"; $(PY) $$script $(ARGS); done

sweep: $(STAMP)  ## Search over all three families, choose a model, test it once, write chorales (about 12 minutes on 2 cores)
	$(PY) -m search.cli run $(SWEEP) --go-on $(ARGS)

constraints: | $(PY)  ## Resolve the newest versions that pyproject.toml allows and write constraints.txt
	@mkdir -p "$(CACHE)"
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile pyproject.toml --extra cpu --extra jax --extra dev --universal --python-version 3.11 \
	      --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file "$(CACHE)/resolved.txt"
	{ sed '/^#/!d' constraints.txt; sed '/^#/d' "$(CACHE)/resolved.txt"; } > "$(CACHE)/constraints.txt"
	mv "$(CACHE)/constraints.txt" constraints.txt

clean:  ## Remove all that these targets made in this folder: .venv, .cache, build leftovers
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Reads as "is this Python one that we can use?": right version, and able to make a virtual environment.
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

.PHONY: remove-moved-venv
remove-moved-venv:
	@echo "This folder was moved since .venv was made; making it anew."
	@rm -rf $(VENV)

$(PY): $(MOVED)
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    if "$$python" -c '$(SUITABLE)' 2>/dev/null; then found="$$python"; break; fi; done; \
	if [ -z "$$found" ]; then \
	    echo "No suitable Python: tried $(or $(PYTHON),python3.13 python3.12 python3.11 python3); needed is 3.11, 3.12 or 3.13" \
	         "with its venv module. Install one (Debian, Ubuntu: apt install python3 python3-venv)" \
	         "or name one: make install PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	echo "Making .venv with $$("$$found" --version) ($$found)."; \
	"$$found" -m venv $(VENV)
	@echo "$(CURDIR)" > $(VENV)/.made-in

$(STAMP): pyproject.toml constraints.txt $(MOVED) | $(PY)
	@echo "Installing the package with [$(EXTRAS)] into .venv, exact versions from constraints.txt: about a minute, more on a slow line."
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(PY) -m uv pip install --quiet --python $(PY) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*; touch $@
	@echo "Installed. Nothing outside $(CURDIR) was changed; 'make clean' takes it away again."
