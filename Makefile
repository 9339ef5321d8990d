# Everything a person does twice. `make sweep` and `make test` set up what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup sweep test test-all test-mutants test-postgres chaos bench bench-adapters bench-scale bench-growth bench-search docs ui lint lock clean
.DEFAULT_GOAL := setup

setup: $(READY)

# The locks name exact versions; the engine, the tests and the sampler that needs PyTorch all come from them.
# `make setup GP=0` leaves PyTorch out: `--sampler gp` then says what it lacks.
GP ?= 1
$(READY): requirements.lock requirements-gp.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lanelock needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	test "$(GP)" = 0 || $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-gp.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# The lane that can pass, then the one that is refused. A NO_GO is an answer, not a failure: exit code 1 is let through.
sweep: setup
	@$(BIN)/lanelock sweep p3_wide
	@echo
	@$(BIN)/lanelock sweep p3 || test $$? -eq 1

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow"

# Ten thousand mutants of locks, evidence, moves and studies: an hour on two cores.
test-mutants: setup
	$(BIN)/python -m pytest -n 2 -m "slow or not slow" tests/sweeps/proof/test_mutants.py

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope

# Every command that writes, under kills, full disks, lost servers: `make chaos ARGS='--tries 1000 --seed 2'`.
chaos: setup
	$(BIN)/python -m tests.chaos $(ARGS)

# Documents, tables and command lines with something wrong in them: `make fuzz FUZZ_SECONDS=600`, or FUZZ_INPUTS=100000.
.PHONY: fuzz fuzz-coverage
FUZZ_SECONDS ?= $(if $(FUZZ_INPUTS),86400,60)
fuzz: setup
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_INPUTS=$(FUZZ_INPUTS) FUZZ_SEED=$(FUZZ_SEED) $(BIN)/python -m tests.fuzz $(ARGS)

# The readers under Atheris, a minute each: `make fuzz-coverage FUZZ_SUBJECTS="lock journal"`.
FUZZ_SUBJECTS ?= policy lane lock moves journal letters registry candidates_csv world_csv
fuzz-coverage: setup
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	for subject in $(FUZZ_SUBJECTS); do $(BIN)/python -m tests.fuzz.coverage $$subject -max_total_time=$(FUZZ_SECONDS) || exit 1; done

# A PostgreSQL and an MLflow server of its own, thrown away afterwards. It installs neither.
test-postgres: setup
	@$(BIN)/python -c 'import sys; sys.path.insert(0, "tests"); import servers; sys.exit(servers.missing() or 0)'
	$(BIN)/python -m pytest -m postgres

bench: setup
	$(BIN)/python -m tests.bench

# What an adapter costs a run beside a bare call; seconds.
bench-adapters: setup
	$(BIN)/python -m tests.bench_adapters

bench-scale: setup
	$(BIN)/python -m tests.bench_scale

# What status, prune, compare, report and a resume cost beside 20,000 trials and 5,000 locks; five minutes.
bench-growth: setup
	PYTHONPATH=tests/queue_engine $(BIN)/python -m tests.bench_growth

# The other searchers are installed for this alone. It takes hours; killed, it goes on where it was.
# `make bench-search ARGS=--help` says what to choose.
$(VENV)/.bench-ready: $(READY) requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-gp.lock -r requirements-bench.lock
	touch $@

bench-search: $(VENV)/.bench-ready
	$(BIN)/python -m tests.bench_search --docs $(ARGS)

# The reference of the public Python names: docs/api/index.html.
docs: setup
	@$(BIN)/python docs/api_reference.py docs/api

# Three projects of other fields, each checked and then swept: examples/README.md.
.PHONY: examples example-inventory example-heater example-patients
LANELOCK := $(CURDIR)/$(BIN)/lanelock
examples: example-inventory example-heater example-patients

example-inventory: setup
	cd examples/inventory && $(LANELOCK) check && $(LANELOCK) sweep

example-heater: setup
	$(MAKE) -C examples/heater
	cd examples/heater && $(LANELOCK) check && $(LANELOCK) sweep

example-patients: setup
	$(BIN)/python examples/patients/reference.py
	cd examples/patients && $(LANELOCK) check && $(LANELOCK) sweep

ui: setup
	$(BIN)/lanelock ui

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
