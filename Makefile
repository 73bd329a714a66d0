# make demo   sets up everything and trains SWaST beside its controls on real images; leaves runs/demo/report.html
# make test   sets up everything and runs the tests
# make slow   runs the tests that make test leaves out for their time
# make check  lint, formatting, types           make wheel  build the wheel and import it
# make oracles  compares selectors with independent packages, which are set up beside the rest
# INDEX=URL   another package index beside the default one, for CPU-only wheels, say

VENV ?= .venv
ORACLES ?= .oracles
JOBS ?= 2
INDEX ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt $(if $(INDEX),--extra-index-url $(INDEX))
PYTHON := $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,\
	$(shell command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))

export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow check oracles wheel clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/sartor compare --config examples/demo.yaml --jobs $(JOBS) --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not gpu and not oracles"

slow: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow and not gpu and not oracles"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

oracles: tests/oracles/requirements.txt
	$(MAKE) VENV=$(ORACLES) $(ORACLES)/.ready
	$(ORACLES)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -r tests/oracles/requirements.txt
	$(ORACLES)/bin/python -m pytest -m oracles tests/oracles

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --wheel --outdir dist . >/dev/null
	$(BIN)/python -c "import glob, sys, zipfile; p = glob.glob('dist/*.whl')[0]; zipfile.ZipFile(p).extractall('dist/unpacked')"
	cd dist/unpacked && ../../$(BIN)/python -c "import os, sartor, sartor.recipes, sartor.report; \
	assert sartor.__file__.startswith(os.getcwd()), sartor.__file__; print('wheel', sartor.__version__)"

clean:
	rm -rf $(VENV) $(ORACLES) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
ifeq ($(PYTHON),)
	@echo "Sartor needs Python 3.11 or newer with venv; install it (Debian, Ubuntu: apt install python3 python3-venv)." >&2; exit 1
else
	@echo "setting up $(VENV) with $(PYTHON) (a few minutes the first time, mostly downloads)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e ".[test]"
	@touch $@
endif
