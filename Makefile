# Every task of this project. A bare `make` lists them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
LOCK := uv pip compile --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --quiet
SCENARIO ?= vaccine-theft
WORKERS ?= 2

.PHONY: help
help: ## this list
	@echo "usage: make TASK"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
	@echo
	@echo "Python 3.11 or newer is all that is needed; PYTHON=... names another one."

# ---- environment --------------------------------------------------------------------------------

# Tries the names in order and takes the first that runs and is new enough: a shim may exist and not run.
FIND_PYTHON = for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then break; fi; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: Python 3.11 or newer is needed; on Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
	  exit 1; \
	fi

$(BIN)/python:
	@$(FIND_PYTHON); \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "make: $$python has no venv and pip modules; on Debian or Ubuntu: apt-get install python$$version-venv" >&2; \
	  exit 1; \
	fi; \
	echo "creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)

$(VENV)/runtime.done: $(BIN)/python requirements/runtime.txt requirements/build.txt pyproject.toml
	@echo "installing what the correlator needs (versions and hashes from requirements/)"
	@$(PIP) install --no-compile --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.done: $(VENV)/runtime.done requirements/dev.txt
	@echo "installing what tests and checks need"
	@$(PIP) install --no-compile --require-hashes -r requirements/dev.txt
	@touch $@

# What tests and the live system need beside Python: program -> Debian package.
PROGRAMS := java:openjdk-17-jre-headless mvn:maven mosquitto:mosquitto openssl:openssl \
	chromium:chromium fc-list:fontconfig prometheus-alertmanager:prometheus-alertmanager
FONTS := fonts-dejavu-core

.PHONY: programs
programs: ## Kafka's Java, Mosquitto, Chromium, Alertmanager: installed by apt-get if run as root
	@missing=; \
	for pair in $(PROGRAMS); do \
	  command -v "$${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/$${pair%%:*}" ] || missing="$$missing $${pair#*:}"; \
	done; \
	case " $$missing" in *chromium*) missing="$$missing $(FONTS)";; esac; \
	if [ -n "$$missing" ]; then \
	  line="apt-get install --yes --no-install-recommends$$missing"; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "installing$$missing"; \
	    { $$line || { apt-get update && $$line; }; } >.programs.log 2>&1 || { cat .programs.log >&2; exit 1; }; \
	    rm -f .programs.log; \
	  else \
	    echo "make: missing:$$missing; run: sudo $$line" >&2; exit 1; \
	  fi; \
	fi

# ---- tasks --------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/runtime.done ## replay the vaccine theft and print the threat it finds (needs Python only)
	@$(BIN)/correlator replay $(SCENARIO) --out out
	@echo
	@echo "see it in the browser: $(BIN)/correlator console open out"

.PHONY: live
live: $(VENV)/runtime.done programs ## the whole system on real Kafka and Mosquitto, playing a scenario (ONCE=1 ends with it)
	@$(BIN)/correlator live $(SCENARIO) $(if $(ONCE),--once)

.PHONY: chaos
chaos: $(VENV)/dev.done programs ## twenty kills and outages of each kind; prints their tables, keeps the runs in out/chaos
	@rm -rf out/chaos && mkdir -p out/chaos
	@$(BIN)/python -m tests.stream.chaos --results out/chaos/stream.ndjson
	@$(BIN)/python -m tests.embedded.chaos --results out/chaos/embedded.ndjson
	@$(BIN)/python -m tests.chaos.run_bridge --runs 20
	@$(BIN)/python -m tests.notifier.chaos
	@$(BIN)/python -m tests.console.chaos

.PHONY: soak
soak: $(VENV)/dev.done programs ## a million messages, one in twenty broken; ten weeks; a flood of fresh keys (about two hours)
	@$(BIN)/python -m tests.soak.messages
	@$(BIN)/python -m tests.soak.weeks
	@$(BIN)/python -m tests.soak.flood

.PHONY: linking-eval
linking-eval: $(VENV)/dev.done ## judge linking on generated hospitals (seeds kept aside); prints the table of docs/linking.md
	@$(BIN)/python -m correlator.lab.linking_eval --seeds aside
	@$(BIN)/python -m correlator.lab.moved

.PHONY: test
test: $(VENV)/dev.done programs ## all checks and tests: ruff, mypy, import-linter, pytest
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "ruff format: run 'make format'" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -q

.PHONY: format
format: $(VENV)/dev.done ## put the code into ruff's form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(VENV)/dev.done ## print this machine's figures (benchmarks/; not part of the tests)
	@$(BIN)/python -m benchmarks

.PHONY: mutants
mutants: $(VENV)/dev.done ## show that the tests find seeded faults in the matching engine
	@$(BIN)/python tests/mutants/run.py

.PHONY: schemas
schemas: $(VENV)/runtime.done ## write the JSON Schemas of all published messages to schemas/
	@$(BIN)/correlator schemas write schemas

.PHONY: licences
licences: $(VENV)/dev.done ## write docs/licences.md from what is installed
	@$(BIN)/python tests/test_licences.py > docs/licences.md

.PHONY: readme
readme: $(VENV)/dev.done ## write the demo's output into README.md
	@$(BIN)/python tests/test_readme.py

.PHONY: lock
lock: $(VENV)/dev.done ## resolve the dependencies again and write requirements/*.txt with hashes
	@$(BIN)/$(LOCK) --upgrade pyproject.toml --output-file requirements/runtime.txt
	@$(BIN)/$(LOCK) --upgrade --group build --constraint requirements/runtime.txt --output-file requirements/build.txt
	@$(BIN)/$(LOCK) --upgrade pyproject.toml --group dev --constraint requirements/runtime.txt \
	  --constraint requirements/build.txt --output-file requirements/dev.txt

# OSV gathers the advisories of the package index, of GitHub and of others. Nothing is resolved or installed.
AUDIT := pip-audit --strict --require-hashes --disable-pip --vulnerability-service osv --progress-spinner off \
	$(patsubst %,--requirement requirements/%.txt,runtime build dev)

.PHONY: audit
audit: $(VENV)/dev.done ## ask OSV whether a locked package is known to be vulnerable (needs the network)
	@$(BIN)/$(AUDIT)

.PHONY: wheel
wheel: $(VENV)/runtime.done ## build the wheel into dist/
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: clean
clean: ## remove the environment and everything that was made
	@rm -rf $(VENV) build dist out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
