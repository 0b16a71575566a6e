# make demo: set up and see it work.   make test: set up and run every check.   make test-all: with every case.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests start hundreds of processes. Where this variable is set, each of them compiles all its modules again.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint types unit bench docs test-arm64 test-oldest vectors crash fuzz clean test-hub unit-defaults
.PHONY: test-all test-defaults guard zoo kit mutants web kernels gpu gpu-site measure bench-browser

demo: $(VENV)/demo-installed
	$(BIN)/lottapack demo

test: lint types unit unit-defaults

# Of many like cases, make test runs a fixed choice (tests/extent.py). This runs all of them.
test-all: export LOTTAPACK_TEST_ALL = 1
test-all: test

lint: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test-installed
	$(BIN)/mypy

unit: $(VENV)/test-installed spec/js/vendor/LICENSE.tokenizers .venv-hub036/installed .venv-olah/installed .venv-timm/installed .venv-light/installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Part of the tests once more, while lottapack's own code runs under other defaults of the process.
# (Two tests are left out: one looks at the frame that a warning names, one sets the number of threads itself.)
DEFAULTS = PYTHONPATH=tests $(BIN)/python -m pytest -p other_defaults --numprocesses 2 --dist loadfile \
  --deselect tests/unit/test_pack_load.py::test_a_changed_backbone_is_stored_merged_and_named \
  --deselect tests/unit/test_rng_fill.py::test_threads_follow_torch
unit-defaults: $(VENV)/test-installed
	$(DEFAULTS) --defaults bfloat16,meta,deterministic \
	  $(addprefix tests/unit/test_,virtual_product.py layers.py pack_load.py switch.py filling.py)

# All tests of layers, of virtual ones, of loading and of packing, under each of several defaults (not part of make test).
test-defaults: $(VENV)/test-installed
	for defaults in bfloat16,meta,deterministic float64,cpu,one-thread float16; do \
	  $(DEFAULTS) --defaults $$defaults $(addprefix tests/unit/test_,virtual_layers.py virtual_loading.py \
	    virtual_product.py layers.py pack_load.py switch.py filling.py resuming.py merge.py part_tensors.py \
	    numpy_loading.py scaffold.py adapted_embeddings.py codings.py rng_fill.py rng_draw.py) || exit 1; \
	done

# Over the models of transformers, timm and diffusers that are installed, for SWEEP seconds; what it has done is in
# build/zoo.jsonl, where the next run takes up, and the table in build/zoo.md (not part of make test).
SWEEP ?= 600
zoo: $(VENV)/test-installed
	mkdir -p build
	PYTHONPATH=tests/zoo:tests/families $(BIN)/python tests/zoo/sweep.py --seconds $(SWEEP) --log build/zoo.jsonl --table build/zoo.md

# Every kernel on memory between pages that nobody may touch (a part of it is in make test).
guard: $(VENV)/test-installed
	$(BIN)/python tests/guard/guard.py

# The vectors on an emulated arm64 processor (not part of make test: it takes minutes, and needs qemu and debootstrap).
test-arm64: $(BIN)/python
	tests/arm64/run.sh $(BIN)/python

# The oldest versions that pyproject.toml allows of what lottapack always needs, and nothing else (not part of make test).
# Not of torch: its older releases for x86-64 come with CUDA only.
test-oldest: .venv-oldest/installed
	PYTHONPATH=tests .venv-oldest/bin/python -m pytest -p core_only -W ignore::DeprecationWarning \
	  --numprocesses 2 --dist loadfile tests/spec tests/equality tests/unit tests/cli

bench: $(VENV)/bench-installed
	$(BIN)/python benchmarks/run.py

# The page that runs models in Chromium, from its address to the first answer: a minute, and another for the models the first time.
bench-browser: $(VENV)/bench-installed spec/js/vendor/LICENSE.tokenizers
	$(BIN)/python benchmarks/bench_browser.py --models build/bench-browser

# Everything that is checked and measured on a GPU, in under ten minutes, with the Python that has torch for it.
# SITE: a folder with packages that it lacks, such as `make gpu-site` fills (for Python 3.12 on x86-64 Linux).
SITE ?=
gpu:
	$(PYTHON) benchmarks/gpu_check.py $(if $(SITE),--site '$(SITE)')

gpu-site: $(BIN)/python
	$(PIP) install --quiet --no-deps --upgrade --target build/gpu-site --constraint constraints.txt --only-binary=:all: \
	  --python-version 3.12 --implementation cp --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
	  msgspec platformdirs

# Machine code of the CPU kernels for common processors, beside their sources, as in a wheel; until a source changes.
kernels: $(VENV)/test-installed
	$(BIN)/python hatch_build.py

# Accuracy beside full training, with seeds: hours, kept in build/measured.jsonl, where the next call takes up.
measure: $(VENV)/test-installed
	$(BIN)/python examples/paper/measure.py

# The documentation as a site, in build/site.
docs: $(VENV)/test-installed
	$(BIN)/python docs/site/build.py

# What the page that runs models takes from others (npm, at the versions of the lock), beside it: a wheel built after this has it.
web: spec/js/vendor/LICENSE.tokenizers
spec/js/vendor/LICENSE.tokenizers: $(VENV)/test-installed spec/web/package-lock.json spec/web/build.py
	$(BIN)/python spec/web/build.py
	touch $@

# Rewrite the specification's vectors (format 1.0 is final: they are only added to, see tests/spec/frozen.py).
vectors: $(VENV)/test-installed
	$(BIN)/python spec/v1/vectors/generate.py

# The vectors as one archive with one index, for readers that are elsewhere (spec/v1/conformance.md).
kit: $(VENV)/test-installed
	$(BIN)/python spec/v1/vectors/generate.py --kit build/lottapack-vectors-1.0.tar.xz

# Change our two readers rule by rule, and show that a vector catches each change, for MUTANTS seconds (hours for all of
# them; what was run is kept in build/mutants-js.json and build/mutants-python.json). Not part of make test.
MUTANTS ?= 7200
mutants: $(VENV)/test-installed
	$(BIN)/python tests/mutants/mutate.py --seconds $(MUTANTS) --table build/mutants.md

# Kill everything that writes at N random moments, and count what became of the files.
N ?= 1000
crash: $(VENV)/test-installed
	$(BIN)/python tests/crash/crash.py $(N)

# Look for an input that brings anything but a LottapackError out of a reader, for as long as one likes. TARGET is a module
# of tests/fuzz/targets, such as pack; without it all of them run in turn and share the time. Before that, for a tenth of
# the time each, inputs on which the readers in Python and JavaScript differ, and changed configurations of all models.
SECONDS ?= 600
TARGET ?=
fuzz: $(VENV)/fuzz-installed
	$(BIN)/python tests/fuzz/differences.py $$(($(SECONDS) / 10))
	$(BIN)/python tests/fuzz/configs.py $$(($(SECONDS) / 10))
	$(BIN)/python tests/fuzz/fuzz.py $(SECONDS) $(addprefix --target ,$(TARGET))

# The Hub client's own tests against lottapack serve (not part of make test; see tests/hub/README.md).
# HUB: an sdist of the client or a checkout of its source; by default pip downloads the sdist of the pinned version.
HUB ?=
test-hub: $(VENV)/test-installed .venv-hub-suite/installed
	$(BIN)/python tests/hub/run.py $(if $(HUB),--suite '$(HUB)')

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lottapack needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

$(VENV)/demo-installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/test-installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[all]' --group test
	touch $@

$(VENV)/fuzz-installed: $(VENV)/test-installed
	$(PIP) install --constraint constraints.txt --group fuzz
	touch $@

$(VENV)/bench-installed: $(VENV)/test-installed
	$(PIP) install --constraint constraints.txt --group bench
	touch $@

# Other people's programs that the tests use with the registry, each in an environment of its own.
.venv-hub036/installed:
	$(PYTHON) -m venv .venv-hub036
	.venv-hub036/bin/python -m pip --disable-pip-version-check --quiet install 'huggingface_hub==0.36.2'
	touch $@

.venv-hub-suite/installed: constraints.txt
	$(PYTHON) -m venv .venv-hub-suite
	.venv-hub-suite/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt \
	  huggingface_hub fastapi jedi jinja2 numpy pytest pytest-mock pytest-timeout
	touch $@

.venv-olah/installed:
	$(PYTHON) -m venv .venv-olah
	.venv-olah/bin/python -m pip --disable-pip-version-check --quiet install 'olah==0.5.4'
	touch $@

# timm brings torchvision, each release of which wants one release of torch: this one the pinned one.
.venv-timm/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-timm
	.venv-timm/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt --editable '.[timm]'
	touch $@

# What `pip install lottapack` brings, without torch, and the extras that need none.
.venv-light/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-light
	.venv-light/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt \
	  --editable '.[serve,oci,sign,onnx]'
	touch $@

.venv-oldest/installed: tests/oldest.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	grep '^torch==' constraints.txt | cat tests/oldest.txt - > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip --disable-pip-version-check --quiet install --constraint .venv-oldest/constraints.txt \
	  --editable '.[demo,plot]' hypothesis jsonschema pytest pytest-xdist
	touch $@

clean:
	rm -rf spec/js/vendor $(VENV) .venv-hub036 .venv-hub-suite .venv-olah .venv-oldest .venv-timm .venv-light build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz .hub-suite
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
