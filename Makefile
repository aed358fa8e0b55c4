# Each target does all of its own set-up: Python 3.11, pip, git and a package registry are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
READERS := .venv-readers
PACKAGES := attestation protocol audit appliance silo_client strongroom demo

# torch is locked by version (its build differs by machine), everything else by hash.
define install
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c locks/constraints.txt torch==2.13.0
	$(PIP) install --require-hashes --no-deps -r locks/$(1).txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@
endef

.PHONY: demo test test-optimised test-all fuzz lint check-imports check-model check-readers check-protos protos locks wheels image image-check soak-kills bench bench-log clean

demo: $(VENV)/.demo
	$(BIN)/strongroom demo $(DEMO_ARGS)

# What runs federations of processes runs alone, the rest side by side.
test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --ignore=tests/e2e --ignore=tests/readers $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "not slow" tests/e2e $(PYTEST_ARGS)

# The same under `python -O`, the processes that tests start included: no check of ours is an assert.
test-optimised: $(VENV)/.dev
	PYTHONOPTIMIZE=1 $(BIN)/python -m pytest -W ignore::pytest.PytestConfigWarning -m "not slow" -n 2 --dist loadfile --ignore=tests/e2e --ignore=tests/readers $(PYTEST_ARGS)
	PYTHONOPTIMIZE=1 $(BIN)/python -m pytest -W ignore::pytest.PytestConfigWarning -m "not slow" tests/e2e $(PYTEST_ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Every parser of foreign bytes, guided by coverage, for FUZZ_SECONDS in all, and every signed bit of all good evidence
# for as long again. What is new to the fuzzer, and how far the bits have come, stays in build/fuzz.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.fuzz
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS) --corpus build/fuzz $(FUZZ_TARGETS)
	$(BIN)/python tests/fuzz/every_bit.py --seconds $(FUZZ_SECONDS) --corpus build/fuzz

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check-imports: $(VENV)/.dev
	$(BIN)/python -m pytest tests/architecture

# Our log before readers and a witness that others wrote, which live in an environment of their own; what they judge
# otherwise than we do is listed in docs/other-readers.md.
check-readers: $(VENV)/.dev $(READERS)/.installed
	STRONGROOM_READERS=$(CURDIR)/$(READERS)/bin $(BIN)/python -m pytest -n 2 --dist loadfile tests/readers $(PYTEST_ARGS)

$(READERS)/.installed: locks/readers.txt
	test -x $(READERS)/bin/python || $(PYTHON) -m venv $(READERS)
	$(READERS)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --ignore-requires-python -r locks/readers.txt
	touch $@

# The round and the witness protocol in every state that a small model of them has; needs spin and a C compiler.
check-model:
	$(PYTHON) docs/model/check.py

# Generated gRPC code is committed; this regenerates it and fails on any difference.
protos: $(VENV)/.dev
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. protocol/wire/*.proto

check-protos: protos
	git diff --exit-code -- protocol/wire

# For maintainers: resolves pyproject.toml into locks/ (needs `pip install uv`).
locks:
	UV=$${UV:-uv} ./locks/compile.sh

$(VENV)/.demo: pyproject.toml locks/demo.txt locks/constraints.txt
	$(call install,demo)

$(VENV)/.dev: pyproject.toml locks/dev.txt locks/constraints.txt
	$(call install,dev)
	touch $(VENV)/.demo

$(VENV)/.fuzz: pyproject.toml locks/fuzz.txt locks/constraints.txt
	$(call install,fuzz)
	touch $(VENV)/.demo $(VENV)/.dev

# What the image is made of: torch by version, everything else by hash, and our own wheel.
wheels: $(VENV)/.demo
	rm -rf build/wheels
	$(PIP) download --no-deps --dest build/wheels torch==2.13.0
	$(PIP) download --no-deps --dest build/wheels --require-hashes -r locks/appliance.txt
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheels .

IMAGE   ?= strongroom-appliance
BASE    ?= docker.io/library/debian:bookworm-slim
BUILDER ?= $(firstword $(foreach tool,docker podman buildah,$(if $(shell command -v $(tool)),$(tool))))

# With docker, podman or buildah, whichever is there; BUILDER_ARGS are passed on.
image: wheels
	$(BUILDER) $(if $(filter buildah,$(notdir $(BUILDER))),bud,build) $(BUILDER_ARGS) --build-arg BASE=$(BASE) --target appliance --tag $(IMAGE) .

# What is in the image, a federation against it under one user and under two, and the demonstration with its appliance
# in it. With buildah, which needs no engine (BUILDAH_ISOLATION=chroot).
image-check: image $(VENV)/.dev
	container=$$(buildah from --pull-never $(IMAGE)) && \
	trap "buildah rm $$container > /dev/null" EXIT && \
	STRONGROOM_CONTAINER=$$container $(BIN)/python -m pytest tests/image && \
	$(BIN)/strongroom demo --out demo-run --appliance "buildah run -v {folder}:{folder} $$container -- strongroom"

KILLS ?= 200
SEED  ?= 1

# A long federation whose processes are killed at random; its figures go to build/soak-kills.json.
soak-kills: $(VENV)/.dev
	mkdir -p build
	PYTHONPATH=tests $(BIN)/python tests/soak/kills.py --kills $(KILLS) --seed $(SEED) --json build/soak-kills.json

# What a verdict on evidence costs; appending to the log, proofs, and verifying it.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench_appraisal
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_log

# Verifying a log of a million entries: a quarter of an hour, most of it to make one.
bench-log: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_log --entries 1000000 --sparse

clean:
	rm -rf $(VENV) $(READERS) build demo-run .mypy_cache .ruff_cache .pytest_cache
