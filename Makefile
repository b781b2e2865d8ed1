# `make test` and `make demo` work as the first command after a clone; they install what is missing and say so.
SHELL := /bin/sh
RUN := .venv/bin
DURATION ?=
export DURATION

.PHONY: help setup tools requirements generate dashboards alerts lint test test-unit test-live truth demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the Python environment (.venv), from hashed requirements
	@scripts/setup.sh python

tools: ## the external programs (Debian packages; the OpenTelemetry Collector, built where Go is installed)
	@scripts/setup.sh tools collector

requirements: setup ## compile requirements/*.txt from pyproject.toml
	$(RUN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -o requirements/dev.txt
	grep '^uv==' requirements/dev.txt | sed 's/ .*//' | \
		$(RUN)/uv pip compile - --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/uv.txt

generate: setup ## regenerate everything that is generated: dashboards, rules, docs/metrics.md
	@$(RUN)/servescope generate

dashboards: setup ## regenerate dashboards/*.json
	@$(RUN)/servescope dashboards

alerts: setup ## regenerate alerts/*.yml
	@$(RUN)/servescope rules

lint: setup ## ruff, mypy, and that what is committed is what would be generated
	@$(RUN)/ruff check -q .
	@$(RUN)/ruff format -q --check .
	@$(RUN)/mypy --no-error-summary
	@$(RUN)/python scripts/check_generated.py

test: setup tools lint test-unit test-live ## what CI runs

test-unit: setup tools ## the tests that need no Ray
	$(RUN)/python -m pytest tests/unit -q

test-live: setup tools ## the tests against a live Ray Serve and a live Prometheus
	$(RUN)/python -m pytest tests/live -q

truth: setup tools ## hold the panels against a client's own count and write docs/truth.md
	TRUTH_TABLE=docs/truth.md $(RUN)/python -m pytest tests/live/test_truth.py -q -s

demo: setup tools ## a live Serve under load with Prometheus and the rules; DURATION=60 ends by itself
	@$(RUN)/python -m demo.local
