# remargin: two commands matter, `make demo` and `make test`; the rest serves them.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
WORKERS ?= auto

.PHONY: help setup demo test test-long lint bench lock clean
.DEFAULT_GOAL := help

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make .venv from the lock and compile the kernels; only Python 3.11 or newer is needed

# The stamp is named by what was installed, so a second `make setup` does nothing, an
# interrupted one starts again, and switching branches reinstalls only what differs.
$(READY):
	@test -n "$(PYTHON)" || { echo "remargin needs Python 3.11 or newer on the PATH." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@echo "compiling the kernels, once"
	@$(BIN)/python -c "import backtest.replay, strategies.registry"
	@rm -f $(VENV)/.ready-*
	@touch $@

demo: setup ## pull, replay, search, track and report on a simulated market: out/demo/report.html
	$(BIN)/remargin demo

test: setup ## all tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test-long: setup ## the two engines against each other, 40,000 random cases
	REMARGIN_TWIN_EXAMPLES=40000 $(BIN)/python -m pytest -q tests/backtest/test_twin.py

lint: setup ## style, form and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## measured speed against NumPy, SciPy and QuantLib
	$(BIN)/python -m benchmarks

lock: ## resolve requirements.lock anew; needs uv
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		--python-version 3.11 --extra dev --extra pdf --extra dashboard \
		pyproject.toml -o requirements.lock

clean: ## remove everything that was made
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
