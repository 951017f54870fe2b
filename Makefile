# Two commands on a fresh machine: `make run` opens the app, `make test` passes the tests.
# ARGS goes to the program that a target runs: make run ARGS="--port 8000", make test ARGS=tests/sft_ui
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LATEST := .venv-latest
ARGS ?=

.PHONY: run test test-gpu coverage check format formats bench test-latest lock latest browser
.DELETE_ON_ERROR:

run: $(VENV)/.run
	$(BIN)/python app.py $(ARGS)

test: $(VENV)/.dev browser
	$(BIN)/python -m pytest $(ARGS)

# What only a CUDA device can show: the tests marked gpu and those of the kernels, on the card named
# first. Exit code 2 without a card. ARGS="--device cpu" is a dry run of the tests' own code.
test-gpu: $(VENV)/.dev
	$(BIN)/python -m tests.gpu_card $(ARGS)
	$(BIN)/python -m pytest tests -m gpu -rs $(ARGS)
	$(BIN)/python -m pytest tests/trainer_backend/training/kernels

# The suite, then the share of lines it runs, subprocesses included, and the files least covered.
coverage: $(VENV)/.dev browser
	$(BIN)/python -m pytest --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report | sed -n '1,32p;/^TOTAL/p'

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxfmt --check sft_ui
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/house $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/oxfmt sft_ui

# docs/formats.md, from the tables of the tests.
formats: $(VENV)/.dev
	$(BIN)/python -m tests.formats_page

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

# The suite with the newest releases that the ranges of pyproject.toml allow.
test-latest: latest browser
	$(LATEST)/bin/python -m pytest $(ARGS)

# Pin those releases in the requirements files and constraints.txt.
lock: latest
	$(LATEST)/bin/python .ci/lock.py

latest:
	rm -rf $(LATEST)
	$(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python .ci/lock.py ranges > $(LATEST)/ranges.txt
	$(LATEST)/bin/python -m pip install --quiet --requirement $(LATEST)/ranges.txt

# The browser tests drive Debian's Chromium; where it is missing it is installed.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || ./.ci/install-chromium

# Kernels for a GPU where there is one; without them it trains too, only slower.
$(VENV)/.run: requirements.txt requirements-gpu.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	! command -v nvidia-smi >/dev/null || \
		$(BIN)/python -m pip install --quiet --requirement requirements-gpu.txt --constraint constraints.txt || \
		echo "The kernels for the GPU were not installed; training goes on without them."
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	touch $@
