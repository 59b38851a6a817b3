# demo: the main job, on an embedded stack. test: checks and tests. Both need only Python 3.11+, pip, make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 3
READY  := $(VENV)/.ready
BENCH  := $(VENV)/.bench

.PHONY: demo test test-slow check bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       set up, start the dev stack, apply examples/mounts.yaml, mint every token"
	@echo "make test       set up, then the static checks and all tests but the long ones"
	@echo "make test-slow  the long ones: clusters, load, kills, upgrades"
	@echo "make check      the static checks alone"
	@echo "make bench      speed against named peers, as ratios"
	@echo "make clean      stop the dev stack and remove what was generated"

# venv --without-pip and pip --python work where Debian's python3-venv is missing.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/dev.txt
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python examples/demo.py

# By file: two workers on one module would start its servers twice. One worker more than
# the two cores this is measured on: the tests wait for servers half of their time. In their
# own order, because files with few and long tests would otherwise come last and alone.
test: check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# All of them, also after a missed limit; peers from PyPI are installed for it alone.
bench: $(BENCH)
	@failed=; for script in benchmarks/[a-z]*.py; do \
	  echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; \
	done; [ -z "$$failed" ] || { echo "missed:$$failed" >&2; exit 1; }

$(BENCH): $(READY) requirements/bench.txt
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

clean:
	-@[ ! -x $(BIN)/skyflowctl ] || $(BIN)/skyflowctl dev down
	rm -rf $(VENV) .skyflowctl .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build artifacts
