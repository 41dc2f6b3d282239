# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv first, once: demo installs the package
# alone, the others the developers' tools too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
# What pip and the compilers print goes to the log; its end is shown where they fail.
PIP = $(BIN)/python -m pip --verbose --disable-pip-version-check install --progress-bar=off -c constraints.txt $(1) \
	>>$(LOG) 2>&1 || { tail -n 30 $(LOG); echo "the installation failed; all of its output: $(LOG)"; exit 1; }
SAY_MISSING := $(BIN)/python -c 'from deeplab_fast.runtime.__main__ import print_missing; print_missing("$(LOG)")'

.PHONY: setup demo test quick shuffled test-reference faults lint types docs bench asan tsan fuzz wheels format clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(PACKAGE): pyproject.toml constraints.txt setup.py $(wildcard csrc/*.* csrc/*/*.* csrc/*/*/*.*)
	@test -x $(BIN)/python || { echo "making $(VENV) (seconds)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing deeplab_fast and torch, building the extension (minutes; log: $(LOG))"
	@rm -f $(LOG)
	@$(call PIP,-e .)
	@touch $@
	@$(if $(filter demo,$(MAKECMDGOALS)),$(SAY_MISSING),:)

# The package is there: its metadata say which tools the extra `dev` asks for, and nothing is built again.
$(STAMP): $(PACKAGE)
	@echo "installing the developers' tools (a minute or two; log: $(LOG))"
	@$(call PIP,'deeplab_fast[dev]')
	@touch $@
	@$(SAY_MISSING)
	@echo "to use it in this shell: source $(BIN)/activate"

demo: $(PACKAGE)
	$(BIN)/python -m deeplab_fast.train
	@echo "to use it in this shell: source $(BIN)/activate"

# Two at a time: most of the time Triton's interpreter runs, on one core.
test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term --cov-fail-under=85

# Between edits: tests of everything, but for those that start processes or interpret kernels for long (tests/quick.py).
quick: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal --quick

# TIMES times in another order each, or TESTS="..." of them: files, and the tests of each; BUCKET=global mixes all. What
# failed fails again with the order that is printed.
TIMES := 1
BUCKET := module
shuffled: setup
	@for order in $$($(BIN)/python -c 'import random; print(*random.sample(range(10**6), $(TIMES)))'); do \
		echo "--random-order-bucket=$(BUCKET) --random-order-seed=$$order"; \
		$(BIN)/python -m pytest -n 2 --dist worksteal -q --random-order-bucket=$(BUCKET) --random-order-seed=$$order $(TESTS) \
			|| exit 1; done

# The tests, or TESTS="..." of them, with the extension switched off.
test-reference: setup
	DEEPLAB_FAST_NO_EXT=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

# Every case of every fault: a table of what was tried, survived and lost. `make test` tries a few of each.
faults: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m fault --all-faults

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.h' '*.c' '*.cpp' '*.cu')

types: setup
	$(BIN)/mypy

# The documents as a site, which opens from the disk: build/site/index.html.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "the site: build/site/index.html"

# Every benchmark, small: results in build/bench. On a GPU: bash benchmarks/gpu.sh.
BENCH := build/bench
SMALL := --backbone=resnet50 --crop_size=65
bench: setup
	$(BIN)/python -m benchmarks.run train_step --rounds=9 --out=$(BENCH)
	$(BIN)/python -m benchmarks.run train_step $(SMALL) --precision=bf16 --rounds=4 --out=$(BENCH)/compiled \
		--implementations=ours,ours-compile,torchvision-eager,torchvision-compile
	$(BIN)/python -m benchmarks.run scaling $(SMALL) --batches=2,4 --crops=65,97 --rounds=4 --out=$(BENCH)
	$(BIN)/python -m benchmarks.run loader_step --backbone=resnet18 --batch_size=4 --crop_size=129 --steps=6 --out=$(BENCH)
	$(BIN)/python -m benchmarks.run evaluation --backbone=resnet18 --crop_size=129 --out=$(BENCH)
	$(BIN)/python -m benchmarks.run floor --out=$(BENCH)
	$(BIN)/python -m pytest benchmarks --benchmark-columns=median,iqr,min,rounds --benchmark-json=$(BENCH)/pytest.json
	@echo "results: $(BENCH)"

# The native tests, built for the address and undefined-behaviour sanitizers; no copy of the usual build is touched.
ASAN := build/asan
ASAN_TESTS := tests/native tests/ops/test_decode.py tests/ops/test_confusion.py tests/ops/test_sample_loader.py \
	tests/data/test_augment.py tests/data/test_loader.py tests/data/test_pillow_images.py
asan: setup
	DEEPLAB_FAST_WITHOUT=cuda DEEPLAB_FAST_SANITIZE=address,undefined \
		$(BIN)/python setup.py --quiet build --build-lib $(ASAN) --build-temp $(ASAN)-temp
	export PYTHONPATH=$(CURDIR)/$(ASAN) UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16 \
		LD_PRELOAD="$$(for l in asan ubsan stdc++; do readlink -f $$($(CXX) -print-file-name=lib$$l.so); done | xargs)"; \
	$(BIN)/python -P -c 'import deeplab_fast._C as c; assert "/$(ASAN)/" in c.__file__, c.__file__' && \
	$(BIN)/pytest $(ASAN_TESTS)

# The loader's threads and all others of csrc/cpu under the thread sanitizer, without Python: it knows nothing of torch's.
TSAN := build/tsan
TSAN_OBJECTS := $(patsubst csrc/cpu/%.cpp,$(TSAN)/%.o,$(wildcard csrc/cpu/*.cpp)) $(TSAN)/loader_threads.o
TSAN_FLAGS := -std=c++17 -O1 -g -fsanitize=thread -ffp-contract=off -Wall -Wextra -DDEEPLAB_FAST_HAS_JPEG=1 \
	-DDEEPLAB_FAST_HAS_PNG=1 -DDEEPLAB_FAST_HAS_DEFLATE=1
tsan: $(TSAN)/loader_threads
	TSAN_OPTIONS=halt_on_error=1 $<
$(TSAN)/loader_threads: $(TSAN_OBJECTS)
	$(CXX) $(TSAN_FLAGS) $^ -ljpeg -lpng -ldeflate -lz -lpthread -o $@
$(TSAN)/%.o: csrc/cpu/%.cpp $(wildcard csrc/*.h csrc/*/*.h)
	@mkdir -p $(@D)
	$(CXX) $(TSAN_FLAGS) -c $< -o $@
$(TSAN)/%.o: tests/native/%.cpp $(wildcard csrc/*.h csrc/*/*.h tests/native/*.h)
	@mkdir -p $(@D)
	$(CXX) $(TSAN_FLAGS) -c $< -o $@

# Every fuzz target for ten minutes of CPU time, or LIMIT=seconds.
fuzz: setup
	$(MAKE) -C tests/fuzz run

# The sdist, a wheel from it for each Python that is here, and a trial of each in a new environment: noxfile.py.
wheels: setup
	$(BIN)/nox --session wheel

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.h' '*.c' '*.cpp' '*.cu')

clean:
	rm -rf $(VENV) build *.egg-info deeplab_fast/_C*.so .coverage .coverage.*
