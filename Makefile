# `make test` and `make demo` work right after a clone; they install what is missing and report it.
SHELL := /bin/sh
RUN := .venv/bin
DURATION ?=
export DURATION
# The live tests that depend on Ray's version.
LIVE_TESTS := $(if $(RAY_VERSION),$(addprefix tests/live/test_,batch.py contract.py truth.py),tests/live)
BENCHES ?= exporter snapshot tracing
# What demo/Dockerfile and exporter/Dockerfile install: the versions of requirements/dev.txt.
IMAGE_REQUIREMENTS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	-q -c requirements/dev.txt

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' Makefile)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## create the Python environment (.venv) from hashed requirements
	@scripts/setup.sh python

tools: ## install external programs (Debian packages, Compose's parser, Chromium; with Go the Collector, the benchmarks' writer)
	@scripts/setup.sh tools compose collector browser bench-blocks

trace-backend: ## build Jaeger with Go; `make test-live` then finds again in it what the Collector sends
	@scripts/setup.sh collector jaeger

log-backend: ## build VictoriaLogs with Go; `make test-live` then finds again in it what both log agents send
	@scripts/setup.sh victorialogs

requirements: setup ## compile requirements/*.txt from pyproject.toml
	$(RUN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -o requirements/dev.txt
	grep '^uv==' requirements/dev.txt | sed 's/ .*//' | \
		$(RUN)/uv pip compile - --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/uv.txt
	for input in requirements/ray-*.in; do \
		$(RUN)/uv pip compile $$input --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-header -q -o $${input%.in}.txt || exit 1; \
	done
	$(RUN)/uv pip compile pyproject.toml --extra demo --extra tracing $(IMAGE_REQUIREMENTS) -o requirements/demo.txt
	$(RUN)/uv pip compile pyproject.toml --extra exporter $(IMAGE_REQUIREMENTS) -o requirements/exporter.txt
	$(RUN)/uv pip compile pyproject.toml requirements/gpu.in --extra demo --extra tracing --no-emit-package onnxruntime \
		$(IMAGE_REQUIREMENTS) -o requirements/demo-gpu.txt
	echo hatchling | $(RUN)/uv pip compile - --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements/build.txt
	$(RUN)/uv pip compile --group docs --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -q -o requirements/docs.txt

generate: setup ## regenerate all generated files: dashboards, rules, pages, the tables of services and layers
	@$(RUN)/servescope generate
	@$(RUN)/python -m scripts.services --write
	@$(RUN)/python -m scripts.architecture --write

dashboards: setup ## regenerate dashboards/*.json
	@$(RUN)/servescope dashboards

alerts: setup ## regenerate alerts/*.yml
	@$(RUN)/servescope rules

lint: setup ## ruff, mypy, layers, generated files up to date, Fluent Bit's configuration, and import of the live tests
	@$(RUN)/ruff check -q .
	@$(RUN)/ruff format -q --check .
	@$(RUN)/mypy --no-error-summary
	@output=$$($(RUN)/lint-imports --no-cache) || { echo "$$output"; exit 1; }
	@$(RUN)/python scripts/check_constructors.py
	@$(RUN)/python scripts/check_generated.py
	@$(RUN)/python scripts/check_fluentbit.py fluentbit/fluent-bit.yaml fluentbit/haproxy.yaml
	@if [ -x .tools/bin/actionlint ]; then .tools/bin/actionlint; else \
		echo "lint: workflows not checked: .tools/bin/actionlint is missing (make lint-workflows builds it if Go is installed)"; fi
	@output=$$($(RUN)/python -m pytest tests/live --collect-only -q 2>&1) || { echo "$$output"; exit 1; }

lint-workflows: ## run actionlint on .github/workflows; builds it with Go
	@scripts/setup.sh actionlint
	@.tools/bin/actionlint

# The other live tests (whole demo, log agents, Chromium) take as long again: `make test-live` runs all of them.
LIVE_CORE := $(addprefix tests/live/test_,batch.py collector.py contract.py exporter.py slow_scrapes.py tracing.py truth.py without_head.py)

test: setup lint test-unit ## run what CI runs: lint, unit tests, Grafana's oracle, and the live tests of metrics, traces and exporter
	@GRAFANA_LINES="$(GRAFANA_FEW)" $(MAKE) --no-print-directory test-grafana
	$(RUN)/python -m pytest $(LIVE_CORE) -q

# The oldest and the newest supported version; `make test-grafana` takes those between them too.
GRAFANA_FEW := 10.4 13.2
export GRAFANA_LINES ?= 10.4 11.6 12.4 13.2

test-grafana: setup ## read every panel with Grafana's own published code, in four versions (GRAFANA_LINES=13.2 selects)
	@scripts/setup.sh tools grafana
	$(RUN)/python -m pytest tests/grafana -q -rs

# promtool takes half of the time, so the two halves run in parallel; its half does not need the Collector, built meanwhile.
PROMTOOL_TESTS := $(addprefix tests/unit/test_,alerts.py promql.py recorded.py slo.py) tests/worlds

test-unit: setup ## run the tests that do not need Ray
	@scripts/setup.sh tools compose browser
	@$(MAKE) --no-print-directory -j2 -Oline unit-promtool unit-rest

unit-promtool:
	$(RUN)/python -m pytest $(PROMTOOL_TESTS) -q

unit-rest:
	@scripts/setup.sh collector
	@scripts/setup.sh docs || : # it reports why; the tests of the site are then skipped
	$(RUN)/python -m pytest tests/unit $(addprefix --ignore=,$(PROMTOOL_TESTS)) -q

test-stores: setup tools ## ask all alerts and panels in every world of a Prometheus 3, and of VictoriaMetrics with vmalert
	@scripts/setup.sh prometheus3 victoriametrics
	PROMETHEUS=.tools/prometheus3 $(RUN)/python -m pytest tests/worlds -q -rs -k "not promtool_says"

test-live: setup tools ## run the tests against a live Ray Serve and Prometheus; RAY_VERSION=2.54.1 selects that Ray
	@scripts/setup.sh ray
	$(RUN)/python -m pytest $(LIVE_TESTS) -q

# Words of PYTHONS: a version, a path, `system` (/usr/bin/python3), `newest`; all supported versions without any.
test-pythons: setup ## test the wheel with each extra on every installed supported Python; PYTHONS="3.12 newest" selects
	@$(RUN)/python -m tests.pythons $(PYTHONS)

compatibility: setup ## the same, and write docs/compatibility.md
	@$(RUN)/python -m tests.pythons --write docs/compatibility.md $(PYTHONS)

truth: setup tools ## compare the panels with a client's own counts and write docs/truth.md
	TRUTH_TABLE=docs/truth.md $(RUN)/python -m pytest tests/live/test_truth.py -q -s

bench: setup tools ## run the benchmarks and write docs/benchmarks.md; BENCHES="exporter tracing" selects sections
	@for bench in $(BENCHES); do $(RUN)/python -m tests.bench.$$bench || exit 1; done

drill-logs: setup tools ## inject faults into both log agents, measure lost lines and cost per line; writes docs/logs.md
	$(RUN)/python -m tests.drill.logs

drill: setup ## inject faults into a live Serve and compare the alerts (as root; FAULTS=a,b RUNS=3)
	@scripts/setup.sh drill
	@$(RUN)/python -m tests.drill

demo: setup ## run a live Serve under load with Prometheus and the rules; DURATION=60 stops after 60 s
	@scripts/setup.sh tools
	@$(RUN)/python -m demo.local

docs: setup ## build the documentation site into .site; DOCS_REF=v0.1.0 sets the tag of links into the repository
	@scripts/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet --clean
	@echo "the site is in .site: open .site/index.html"

# TAG checks version and changelog against a tag.
release-files: setup ## build a release's files into dist: wheel, sdist, dashboards and rules, the Collector if it is built
	@$(RUN)/python -m scripts.release $(if $(TAG),--tag $(TAG)) $(if $(wildcard .tools/otelcol),--collector .tools/otelcol)

pictures: setup tools ## write docs/pictures/*.png of every dashboard, from a running demo or a new one
	@$(RUN)/python -m demo.screenshots

steps: setup ## measure the capacity of one replica of the demo, and print the limits to set
	@$(RUN)/python -m demo.sizing

up: ## run the demo in containers, with Grafana, Loki and Tempo; GPU=1 or 0 forces or omits the GPU file
	@python3 scripts/compose.py up

down: ## stop the containers and delete their data
	@python3 scripts/compose.py down

smoke: setup ## send requests through the containers of `make up` and find them in every backend
	@$(RUN)/python -m demo.smoke
