# `make test` and `make demo` work as the first command after a clone; they install what is missing and say so.
SHELL := /bin/sh
RUN := .venv/bin
DURATION ?=
export DURATION
# The demo brings its own Ray; what depends on the version is held by these.
LIVE_TESTS := $(if $(RAY_VERSION),$(addprefix tests/live/test_,batch.py contract.py truth.py),tests/live)
BENCHES ?= exporter snapshot tracing
# What demo/Dockerfile and exporter/Dockerfile install: the versions of requirements/dev.txt.
IMAGE_REQUIREMENTS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	-q -c requirements/dev.txt

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' Makefile)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the Python environment (.venv), from hashed requirements
	@scripts/setup.sh python

tools: ## the external programs (Debian packages; Compose's parser; Chromium; the OpenTelemetry Collector, built where Go is there)
	@scripts/setup.sh tools compose collector browser

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

generate: setup ## regenerate everything that is generated: dashboards, rules, pages, the tables of services and layers
	@$(RUN)/servescope generate
	@$(RUN)/python -m scripts.services --write
	@$(RUN)/python -m scripts.architecture --write

dashboards: setup ## regenerate dashboards/*.json
	@$(RUN)/servescope dashboards

alerts: setup ## regenerate alerts/*.yml
	@$(RUN)/servescope rules

lint: setup ## ruff, mypy, layers, that what is committed is what would be generated, Fluent Bit's configuration, and that all live tests load
	@$(RUN)/ruff check -q .
	@$(RUN)/ruff format -q --check .
	@$(RUN)/mypy --no-error-summary
	@told=$$($(RUN)/lint-imports --no-cache) || { echo "$$told"; exit 1; }
	@$(RUN)/python scripts/check_constructors.py
	@$(RUN)/python scripts/check_generated.py
	@$(RUN)/python scripts/check_fluentbit.py fluentbit/fluent-bit.yaml fluentbit/haproxy.yaml
	@if [ -x .tools/bin/actionlint ]; then .tools/bin/actionlint; else \
		echo "lint: the workflows are not checked: no .tools/bin/actionlint (make lint-workflows builds it where Go is)"; fi
	@told=$$($(RUN)/python -m pytest tests/live --collect-only -q 2>&1) || { echo "$$told"; exit 1; }

lint-workflows: ## actionlint over .github/workflows; builds it with Go
	@scripts/setup.sh actionlint
	@.tools/bin/actionlint

# The rest of the live tests (whole demo, log agents, Chromium) takes as long again: `make test-live` runs all of them.
LIVE_CORE := $(addprefix tests/live/test_,batch.py collector.py contract.py exporter.py tracing.py truth.py without_head.py)

test: setup lint test-unit ## what CI runs: lint, unit, and the live tests of metrics, traces and exporter
	$(RUN)/python -m pytest $(LIVE_CORE) -q

# Half of the time is promtool's, so the two halves run side by side; its half needs no Collector, which is built meanwhile.
PROMTOOL_TESTS := $(addprefix tests/unit/test_,alerts.py promql.py recorded.py slo.py)

test-unit: setup ## the tests that need no Ray
	@scripts/setup.sh tools compose browser
	@$(MAKE) --no-print-directory -j2 -Oline unit-promtool unit-rest

unit-promtool:
	$(RUN)/python -m pytest $(PROMTOOL_TESTS) -q

unit-rest:
	@scripts/setup.sh collector
	@scripts/setup.sh docs || : # it says why; the tests of the site then say that they did not run
	$(RUN)/python -m pytest tests/unit $(addprefix --ignore=,$(PROMTOOL_TESTS)) -q

test-live: setup tools ## the tests against a live Ray Serve and a live Prometheus; RAY_VERSION=2.54.1 takes that Ray
	@scripts/setup.sh ray
	$(RUN)/python -m pytest $(LIVE_TESTS) -q

# Words of PYTHONS: a version, a path, `system` (/usr/bin/python3), `newest`; all supported versions without any.
test-pythons: setup ## the wheel with each extra on every supported Python that is here; PYTHONS="3.12 newest" chooses
	@$(RUN)/python -m tests.pythons $(PYTHONS)

compatibility: setup ## the same, and write docs/compatibility.md
	@$(RUN)/python -m tests.pythons --write docs/compatibility.md $(PYTHONS)

truth: setup tools ## hold the panels against a client's own count and write docs/truth.md
	TRUTH_TABLE=docs/truth.md $(RUN)/python -m pytest tests/live/test_truth.py -q -s

bench: setup tools ## measure what docs/benchmarks.md says, and write it; BENCHES="exporter tracing" names the sections
	@for bench in $(BENCHES); do $(RUN)/python -m tests.bench.$$bench || exit 1; done

drill-logs: setup tools ## every fault that loses lines against both log agents, and what a line costs; writes docs/logs.md
	$(RUN)/python -m tests.drill.logs

drill: setup ## break a live Serve in every way and hold the alerts against it (as root; FAULTS=a,b RUNS=3)
	@scripts/setup.sh drill
	@$(RUN)/python -m tests.drill

demo: setup ## a live Serve under load with Prometheus and the rules; DURATION=60 ends by itself
	@scripts/setup.sh tools
	@$(RUN)/python -m demo.local

docs: setup ## the documentation site, into .site; DOCS_REF=v0.1.0 names the tag that links into the repository lead to
	@scripts/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet --clean
	@echo "the site is in .site: open .site/index.html"

# TAG holds the version and the changelog to a tag.
release-files: setup ## the files of a release, into dist: wheel, sdist, dashboards and rules, the Collector where it is built
	@$(RUN)/python -m scripts.release $(if $(TAG),--tag $(TAG)) $(if $(wildcard .tools/otelcol),--collector .tools/otelcol)

pictures: setup tools ## docs/pictures/*.png of every dashboard, from a running demo or one of its own
	@$(RUN)/python -m demo.screenshots

steps: setup ## how many requests one replica of the demo carries, and the limits that follow
	@$(RUN)/python -m demo.sizing

up: ## the same in containers, with Grafana, Loki and Tempo; GPU=1 or 0 forces or leaves out the GPU file
	@python3 scripts/compose.py up

down: ## stop the containers and delete their data
	@python3 scripts/compose.py down

smoke: setup ## drive requests through the containers of `make up` and find them in every backend
	@$(RUN)/python -m demo.smoke
