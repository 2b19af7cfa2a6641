# make demo    a synthetic volume from raw file to report, in minutes on two CPU cores
# make test    all tests, on a Slurm cluster only the whole chain and jobs that it ends: `make
#              test-slurm` has all of these; `make test-quick` none, and none of more than 30 s
# make lint    format, style, types, rules
# make clean   what the demo and the checks have made; `make distclean` the environments too
#
# Everything runs in .venv, made on first use; PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SNAKEFMT := .venv-snakefmt/.installed
DEMO := resources/demo
PAGE := results/demo/report/index.html

.PHONY: install demo test test-quick test-slurm lint schemas clean distclean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

# Its own environment: it pins other versions of what Snakemake needs.
$(SNAKEFMT):
	test -x .venv-snakefmt/bin/python || $(PYTHON) -m venv .venv-snakefmt
	.venv-snakefmt/bin/python -m pip install --quiet snakefmt==2.1.0
	touch $@

demo: $(DEMO)/truth.tif
	$(BIN)/snakemake --profile profiles/local --configfile config/demo.yaml
	@echo
	@echo "$(PAGE)"

$(DEMO)/truth.tif: | $(INSTALLED)
	$(BIN)/unet-core phantom --shape 40 512 512 --out $(DEMO)

# Those on a Slurm cluster by one process: each would have a cluster of its own, on the same cores.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --ignore tests/slurm
	$(BIN)/python -m pytest -n 0 tests/slurm/test_demo.py tests/slurm/test_faults_jobs.py

# Besides, what else goes wrong on a cluster, and what takes several nodes: most of it waiting.
test-slurm: $(INSTALLED)
	$(BIN)/python -m pytest -n 0 tests/slurm

test-quick: $(INSTALLED)
	$(BIN)/python -m pytest -n auto -m "not slow" --ignore tests/slurm

lint: $(INSTALLED) $(SNAKEFMT)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	.venv-snakefmt/bin/snakefmt --check workflow
	$(BIN)/snakemake --lint

# After a change of a setting: the schemas are written from the dataclasses.
schemas: $(INSTALLED)
	$(BIN)/python -m unet_core.config.schema

clean:
	rm -rf $(DEMO) results/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf .venv .venv-snakefmt
