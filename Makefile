# make test    static checks and all tests            make check   static checks only
# make demo    a fatal error, a recovery, a kill      make bench   speed and latency figures
# make clean   removes what the others made
PYTHON ?= python3
venv := .venv
ready := $(venv)/ready

.PHONY: test check demo bench clean

test: check
	scripts/test

check: $(ready)
	scripts/check

demo: $(ready)
	$(venv)/bin/xenaer demo

bench: $(ready)
	$(venv)/bin/xenaer bench

$(ready): pyproject.toml
	$(PYTHON) -m venv $(venv)
	$(venv)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(venv) xenaer-demo.jsonl build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
