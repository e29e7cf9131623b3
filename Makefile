# Needs python3 (3.11 or newer) and make. Another interpreter: make quickstart PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
# Two workers with a thread each: more threads in more processes than there are cores would wait for one another.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

.DELETE_ON_ERROR:
.PHONY: quickstart test test-services test-all check format docs dist clean

quickstart: $(VENV)/.installed
	$(BIN)/tuneoff run quickstart

test: check
	$(PYTEST) -m "not slow"

# Trials on a real Ray and a real SLURM, and the report's page in a real browser; one after another, because they share ports and
# cores. What is not installed is skipped, and why is told. All of these tests, not the chosen few: make test-services SERVICES=test
SERVICES ?= finds_its_jobs_again or preempted_trial or somebody_cancels or outlives_a_node or page_in_browser
SERVICE_TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -k "$(SERVICES)" tests/executors/test_slurm.py \
  tests/executors/test_ray.py tests/report/test_page_in_browser.py
test-services: $(VENV)/.installed-dev
	@$(MAKE) $(VENV)/.installed-ray || echo "Ray cannot be installed: its tests are skipped."
	$(SERVICE_TESTS) || { echo "What failed is tried once more: a service may have been slow to answer."; \
	  $(SERVICE_TESTS) --last-failed; }

# The slow tests build the site and start Ray, too.
test-all: check $(VENV)/.installed-docs $(VENV)/.installed-ray
	$(PYTEST)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of docs/ with the Python API, in build/site; a broken link is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

# The two files of a release, in dist/ (docs/releasing.md).
dist: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m hatchling build

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tuneoff needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another interpreter: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
	  echo "Debian and Ubuntu keep it apart: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first and pinned, so that no later step can pull another build of it. A stamp is written last:
# an interrupted installation is taken up again, a finished one is not repeated until its inputs change.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/.installed-ray: $(VENV)/.installed-dev
	$(PIP) install -c constraints.txt -e '.[ray]'
	@touch $@
