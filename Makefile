# Two commands: `make demo` and `make test`. Both set up everything that they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := mnist_pc mnist_lpc mnist_vae

.PHONY: help demo test quick lint bench docs clean

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,analysis,brian2,pictures,export,docs]'
	@touch $@

demo: .venv/ready ## train vanilla PC, Langevin PC and a VAE on 5,000 digits, and compare them
	@for study in $(DEMO); do $(BIN)/pcsim run studies/$$study.yaml --out runs/demo/$$study || exit 1; done
	@$(BIN)/pcsim compare $(DEMO:%=runs/demo/%) --out runs/demo/comparison
	@$(BIN)/pcsim report $(DEMO:%=runs/demo/%) --out runs/demo/report.html

test: .venv/ready lint ## the gates and every test that needs no GPU
	$(BIN)/python -m pytest -n 2 -m 'not cuda'

quick: .venv/ready lint ## the gates and the tests that take seconds
	$(BIN)/python -m pytest -n 2

lint: .venv/ready ## ruff, ruff format and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/ready ## the benchmarks (a quiet machine, please)
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

docs: .venv/ready ## the documentation, notebooks executed, in docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

clean: ## forget the environment (runs are kept)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
