# `make demo` shows it, `make test` proves it, `make help` lists the rest.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install demo lint format docs fault-matrix services test test-core test-services test-faults test-newest soak soak-servers soak-simulation fuzz mutants bench bench-faults clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

install: $(STAMP) ## .venv with everything; `mr` at .venv/bin/mr (PYTHON=python3.12 picks an interpreter)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "mrmq needs Python 3.11 or newer; try: make PYTHON=python3.11 install" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install ## word count on the text the repository ships, embedded
	@rm -rf .demo && mkdir .demo
	$(BIN)/mr run examples/wordcount/job.py examples/data/licences -o .demo/words --maps 8 --reduces 2
	@echo; echo "The ten most frequent words (.demo/words/part-*):"
	@sort -t "$$(printf '\t')" -k2,2nr -k1,1 .demo/words/part-* | head -n 10

lint: install ## ruff, mypy --strict, the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## write the generated sections of all documents anew
	$(BIN)/python -m tests.support.documents

fault-matrix: install ## write docs/fault-matrix.md anew from the marked tests that have run here
	$(BIN)/python -m tests.support.fault_matrix

services: ## install RabbitMQ, Redis and the AMQP tools from Debian's packages, if absent
	@.ci/services

test: lint services ## everything: lint, all tiers, the coverage report
	@rm -rf .coverage
	$(MAKE) test-core test-services MEASURE="--cov --cov-append --cov-report= --cov-fail-under=0"
	$(BIN)/coverage html --quiet --fail-under=0
	$(BIN)/coverage report --format=total >/dev/null || { $(BIN)/coverage report; exit 2; }
	@echo "coverage: $$($(BIN)/coverage report --format=total --fail-under=0)% of lines and branches;" \
	  "report: .coverage/html/index.html"

# The simulation is not measured: it would take three times as long.
test-core: install ## the tiers that need no service
	$(PYTEST) -q -n 2 $(MEASURE) tests/unit tests/project tests/property tests/scenarios
	$(PYTEST) -q -n 2 tests/simulation
	$(PYTEST) -q -n 2 tests/fuzz

# What runs as daemons is not measured either: it would cost time and show nothing.
test-services: install ## the tiers on real RabbitMQ and Redis
	$(PYTEST) -q -n 2 --dist loadfile $(MEASURE) tests/contract tests/integration
	$(PYTEST) -q -n 2 --dist loadfile tests/e2e
	$(PYTEST) -q -n 2 --dist worksteal -m selected tests/faults

test-faults: install services ## every fault at every point, on real servers and processes, about 10 min
	$(PYTEST) -q -n 2 --dist worksteal tests/faults

# A server that cannot be started fails its tests (CI): none is skipped.
test-newest: install ## the same and the faults on the newest RabbitMQ and Redis of Debian, in a root of their own; as root
	.ci/newest $(BIN)/python -m tests.support.servers
	CI=true .ci/newest $(PYTEST) -q -n 2 --dist loadfile tests/contract tests/integration tests/e2e $(wildcard tests/faults)

soak: install services ## jobs under random faults, then the simulation's seeds: [MINUTES=30] [SERVERS=newest] [SEED=..] [SEEDS=100000]
	$(MAKE) soak-servers
	$(MAKE) soak-simulation SEEDS=$(or $(SEEDS),100000)

soak-servers: install services ## the jobs alone
	$(if $(filter newest,$(SERVERS)),.ci/newest) $(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30) $(addprefix --seed ,$(SEED))

soak-simulation: install ## simulated clusters from many seeds, on all cores: make soak-simulation [SEEDS=100000]
	$(BIN)/python -m tests.simulation --seeds 0:$(or $(SEEDS),100000) --processes 0

fuzz: install ## absurd input to everything that takes any, on all cores: make fuzz [MINUTES=10] [SEED=1]
	$(BIN)/python -m tests.fuzz $(addprefix --minutes ,$(MINUTES)) $(addprefix --seed ,$(SEED))

mutants: install ## put each mended defect back and require that its test fails: make mutants [NAMES="01 13"]
	$(BIN)/python -m tests.mutants $(NAMES)

bench: install services ## benchmarks: make bench [BENCH_MIB=200] [BENCH_TASKS=2000]
	$(BIN)/python tests/benchmarks/wordcount.py --size $(or $(BENCH_MIB),200)
	$(BIN)/python tests/benchmarks/noop_tasks.py --tasks $(or $(BENCH_TASKS),2000)

bench-faults: install services ## what faults cost against the undisturbed run, about 10 min: [ONLY=25]
	$(BIN)/python tests/benchmarks/faults.py $(addprefix --only ,$(ONLY))

clean: ## remove the virtual environment, caches and demo output
	rm -rf $(VENV) .demo .bench .coverage .faults build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
