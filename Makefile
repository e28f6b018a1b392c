# One door for every task. Needs Python 3.10 or newer, pip and make; everything else goes into .venv*/ and build/.
# What is run and tested is the package as a wheel installs it, never the working tree: see TESTS below.

PYTHON ?= python3
MATRIX ?=
PYTEST_ARGS ?=
SDK_VERSIONS ?=
FUZZ_CASES ?= 20000
FUZZ_SEED ?= 1
FUZZ_FROM ?= 0
FAULTS ?= --slow
BENCH ?=
ONLY ?=
ROUNDS ?=

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
unexport PYTHONPATH

SOURCES := $(shell find posthog_autoinstrument sitecustomize_template -name '*.py') posthog_autoinstrument/py.typed \
	$(wildcard posthog_autoinstrument/viewer/templates/* posthog_autoinstrument/viewer/static/*) \
	setup.cfg pyproject.toml README.md LICENSE
WHEEL := build/wheel/.built
PIP := -m pip --disable-pip-version-check --quiet

# Run from an empty folder: `python -m ...` puts the current folder on sys.path, and the source would hide the wheel.
TESTS = mkdir -p build/testrun && cd build/testrun && TESTS_OF=wheel ../../$(1)/bin/python -m pytest \
	-c ../../pyproject.toml --rootdir=../.. ../../tests $(2) $(PYTEST_ARGS)

.PHONY: help demo test lint promises fuzz faults canary audit backpressure bench bench-peers soak web browser screenshots view-speed packages elsewhere beside frameworks steps sessions memory sdk-suite matrix matrix-ci ci docs readme format clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

demo: .venv/.demo ## run the demo: an example program, a fake OpenAI, a table of events
	@.venv/bin/posthog-instrument demo

test: .venv-test/.wheel ## run the everyday tests on the installed wheel (those of make web are apart)
	@$(call TESTS,.venv-test,-n 3 -m "not packages and not memory and not browser and not web")

lint: .venv-test/.installed ## ruff (lint and format) and mypy
	@.venv-test/bin/python -m ruff check .
	@.venv-test/bin/python -m ruff format --check .
	@.venv-test/bin/python -m mypy

promises: .venv-test/.wheel ## the agent's promises to its host program, each by name
	@$(call TESTS,.venv-test,-n 2 -m promise -v)

fuzz: .venv-test/.wheel ## damaged answers, many: FUZZ_CASES=20000 FUZZ_SEED=1 FUZZ_FROM=0
	@FUZZ_CASES=$(FUZZ_CASES) FUZZ_SEED=$(FUZZ_SEED) FUZZ_FROM=$(FUZZ_FROM) $(SHELL) -c '$(call TESTS,.venv-test,-s -k test_damaged_answers)'

faults: .venv-test/.wheel ## what becomes of events when PostHog or the program fails: a table; --slow: a minute's outage
	@cd build && ../.venv-test/bin/python ../tests/tools/faults/run.py $(FAULTS)

canary: .venv-test/.wheel ## a secret wherever a program may put one, and nowhere that we write or send
	@$(call TESTS,.venv-test,-k test_canary -v)

audit: .venv-test/.wheel ## known weaknesses of what we depend on, where the advisory service can be reached
	@.venv-test/bin/python -m pip_audit --version >/dev/null 2>&1 || .venv-test/bin/python $(PIP) install pip-audit
	@.venv-test/bin/python tests/tools/audit.py

backpressure: .venv-test/.wheel ## what a program notices of a slow PostHog: latency and memory, as ratios
	@cd build && ../.venv-test/bin/python ../benchmarks/backpressure.py

bench: $(WHEEL) ## what the agent costs, against bare: docs/performance.md, benchmarks/results; BENCH=quick; ONLY=growth
	@BENCH=$(BENCH) .venv/bin/python benchmarks/bench.py $(if $(ONLY),--only "$(ONLY)") $(if $(ROUNDS),--rounds $(ROUNDS) --write)

bench-peers: $(WHEEL) ## what other tools cost, each in an environment of its own, beside the agent; BENCH=quick; ONLY=chat
	@BENCH=$(BENCH) .venv/bin/python benchmarks/peers.py $(if $(ONLY),--only "$(ONLY)") $(if $(ROUNDS),--rounds $(ROUNDS) --write)

soak: .venv-test/.wheel ## 200,000 calls: memory must stay flat; benchmarks/results/soak.svg
	@.venv-test/bin/python -c "import matplotlib" 2>/dev/null || \
		.venv-test/bin/python $(PIP) install "$$(echo build/wheel/*.whl)[bench]"
	@.venv-test/bin/python benchmarks/soak.py

web: .venv-test/.browser ## web requests, borders, libraries, the examples in real servers, and a page in Chromium
	@.ci/install-chromium
	@.ci/install-redis
	@$(call TESTS,.venv-test,-n 2 -m "web and not browser")
	@$(call TESTS,.venv-test,-m "web and browser")

browser: .venv-test/.browser ## the pages of `view` in Chromium, which is installed by apt-get where it is missing
	@.ci/install-chromium
	@$(call TESTS,.venv-test,-m "browser and not web")

screenshots: .venv-test/.browser ## the README's pictures, docs/images/, from the demo's data
	@.ci/install-chromium
	@.venv-test/bin/python tests/tools/screenshots.py

view-speed: .venv-test/.browser ## how long the pages of `view` take with 100,000 calls: first paint, answers; VIEW_CALLS=10000
	@.ci/install-chromium
	@.venv-test/bin/python tests/tools/view_speed.py

packages: .venv-test/.wheel ## install from wheel, from sdist and editable into fresh environments, and launch
	@$(call TESTS,.venv-test,-m packages -v)

elsewhere: .venv-test/.wheel ## real LangChain, openai-agents and litellm with PostHog's own integrations (slow)
	@cd build && ../.venv-test/bin/python ../tests/tools/elsewhere/run.py --wheel wheel/*.whl

beside: .venv-test/.wheel ## other tools (Datadog, Sentry, OpenTelemetry, ...) and the agent in one program; NAMES="sentry" (slow)
	@cd build && ../.venv-test/bin/python ../tests/tools/beside/run.py --wheel wheel/*.whl $(NAMES)

frameworks: .venv-test/.wheel ## real frameworks (LangChain, LiteLLM, ...) bare and launched, compared; NAMES="llm dspy"
	@cd build && ../.venv-test/bin/python ../tests/tools/llm_libraries/run.py $(NAMES)

steps: .venv-test/.wheel ## real openai-agents, LangChain and LangGraph: their steps as trees (slow)
	@cd build && ../.venv-test/bin/python ../tests/tools/steps/run.py --wheel wheel/*.whl

sessions: .venv-test/.wheel ## real Gradio, Streamlit and Chainlit with two users at once: whose each call is (slow)
	@cd build && ../.venv-test/bin/python ../tests/tools/sessions/run.py --wheel wheel/*.whl $(NAMES)

memory: .venv-test/.wheel ## what 100,000 calls and 10,000 abandoned streams leave behind
	@$(call TESTS,.venv-test,-n 2 -m memory -v)

sdk-suite: .venv-test/.wheel ## the OpenAI SDK's own tests, which must end the same with and without the agent (slow)
	@.venv-test/bin/python tests/tools/sdk_suite.py $(SDK_VERSIONS)

matrix: $(WHEEL) ## the tests on every openai, Python and wrapt; MATRIX="openai=1.60 python=3.12" for one cell
	@PYTHON="$(PYTHON)" .venv/bin/python tests/tools/matrix.py $(MATRIX)

matrix-ci: $(WHEEL) ## the oldest, the newest and two cells between
	@PYTHON="$(PYTHON)" .venv/bin/python tests/tools/matrix.py ci

ci: ## everything that must pass before a change goes in
	@.ci/run

format: .venv-test/.installed ## rewrite the source as ruff wants it
	@.venv-test/bin/python -m ruff check --fix .
	@.venv-test/bin/python -m ruff format .

docs: .venv-test/.docs ## build the site, build/site/index.html; a link or an anchor that leads nowhere fails it
	@rm -rf build/site
	@.venv-test/bin/python -m sphinx -q -W --keep-going -E -d build/site-cache -c docs . build/site

readme: .venv-test/.wheel ## write the generated tables and examples into README.md and docs/
	@cd build && ../.venv-test/bin/python ../docs/generate

clean: ## remove the environments and everything built
	rm -rf .venv .venv-test build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- environments; the files are stamps ---

.venv/.made: .ci/make-environment
	@.ci/make-environment "$(PYTHON)" .venv
	@.venv/bin/python $(PIP) install "setuptools>=64" wheel
	@touch $@

$(WHEEL): .venv/.made $(SOURCES)
	@echo "building the wheel"
	@rm -rf build/wheel build/lib build/bdist.*
	@.venv/bin/python $(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	@touch $@

.venv/.demo: $(WHEEL)
	@echo "installing the wheel, the openai package and the viewer into .venv"
	@.venv/bin/python $(PIP) install --force-reinstall --no-deps build/wheel/*.whl
	@.venv/bin/python $(PIP) install "posthog-autoinstrument[demo]"
	@touch $@

.venv-test/.installed: .ci/make-environment setup.cfg | $(WHEEL)
	@.ci/make-environment "$(PYTHON)" .venv-test
	@echo "installing the test tools into .venv-test"
	@.venv-test/bin/python $(PIP) install "$$(echo build/wheel/*.whl)[test,lint]"
	@touch $@

.venv-test/.wheel: %/.wheel: %/.installed $(WHEEL)
	@$*/bin/python $(PIP) install --force-reinstall --no-deps build/wheel/*.whl
	@touch $@

.venv-test/.browser: %/.browser: %/.wheel
	@echo "installing playwright into $*"
	@$*/bin/python $(PIP) install "$$(echo build/wheel/*.whl)[browser]"
	@touch $@

.venv-test/.docs: %/.docs: %/.installed
	@echo "installing Sphinx into $*"
	@$*/bin/python $(PIP) install "$$(echo build/wheel/*.whl)[docs]"
	@touch $@
