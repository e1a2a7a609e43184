# Everything runs in .venv, made from the constraints, which pin a set of packages known to work together.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# For `make serve`. Given on its command line only: some shells export a HOST of their own.
HOST := 127.0.0.1
PORT := 4200
INSTALLED := $(VENV)/.installed

.PHONY: run serve stop test bench bench-scale faults clean

run: $(INSTALLED)  ## simulate 5,000 cells and run the pipeline on them
	$(BIN)/python flows/run.py --dataset synthetic --samples 5000

serve: $(INSTALLED)  ## a Prefect server with its UI, and the deployments, until Ctrl-C or `make stop`
	@$(BIN)/python -m deployments.local start --host $(HOST) --port $(PORT)

stop: $(INSTALLED)  ## end what `make serve` started
	@$(BIN)/python -m deployments.local stop

test: $(INSTALLED)  ## every check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile

bench: $(INSTALLED)  ## this project against scikit-learn, scanpy and a plain script, on the same simulated cells
	$(BIN)/python -m tests.bench --output bench.json
	$(BIN)/python -m tests.bench.atlas --output bench-atlas.json

bench-scale: $(INSTALLED)  ## past one machine: what other engines than threads cost
	$(BIN)/python -m tests.bench.scale --output bench-scale.json

faults: $(INSTALLED)  ## each fault many times, at seeded random moments and places
	$(BIN)/pytest tests/faults --faults 50

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .store .store-atlas .store-applied .store-nightly .store-weekly .prefect
