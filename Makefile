# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-reference lint types bench asan fuzz format clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard csrc/*) $(wildcard csrc/*/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m deeplab_fast.train

test: setup
	$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=85

# The tests, or TESTS="..." of them, with the extension switched off.
test-reference: setup
	DEEPLAB_FAST_NO_EXT=1 $(BIN)/python -m pytest $(TESTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m pytest benchmarks --benchmark-columns=median,iqr,min,rounds

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')

clean:
	rm -rf $(VENV) build *.egg-info deeplab_fast/_C*.so .coverage .coverage.*
