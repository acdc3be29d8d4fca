# Every target only wraps plain pip and pytest lines; README.md shows them too.
PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 4
BIN    := $(VENV)/bin

.PHONY: gate test check lint types format clean

gate: $(VENV)/.installed
	$(BIN)/kick fetch smollm2-135m
	$(BIN)/python -m pytest suites/ -n $(WORKERS)

test: $(VENV)/.installed
	$(BIN)/kick fetch smollm2-135m
	$(BIN)/python -m pytest tests/ -n 2

check: lint types test

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) .kick build dist *.egg-info
