# The two commands: `make demo` runs everything on this machine, `make test` proves it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.demo

.PHONY: help demo test test-long check measure fleet crowd campaign mutants docs sbom lock clean fuzz fault-matrix attack deb deb-test screenshots repo fleet-update

help:                            ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' | expand -t 14

demo: $(DEMO) broker             ## the whole locker on this machine, until Ctrl-C
	@exec $(PY) -m tools.bench

test: check broker postgres systemd repo-tools tpm  ## every check, and every test but the long ones
	bash tools/setup/tests.sh $(PY)

test-long: $(STAMP) broker postgres systemd browser  ## the tests that take a minute or more each
	$(PY) -m pytest --durations=20 -m long

check: $(STAMP)                  ## style, types, layers; seconds
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

measure: $(STAMP) broker         ## benchmarks; figures against the wire's or a library's limit
	$(PY) -m tools.measure

fleet: $(STAMP) broker           ## 500 light machines against one broker and one gateway; some ten minutes
	$(PY) -m tools.fleet

crowd: $(STAMP) broker           ## the traffic of 100,000 machines, broker and gateway real; half an hour
	$(PY) -m tools.fleet.crowd

deb: $(STAMP)                    ## Debian packages of daemon and gateway, into dist/
	$(PY) -m tools.package

deb-test: $(STAMP) broker systemd  ## installs the packages in a clean Debian, as root; some minutes
	@bash tools/setup/debootstrap.sh
	DEB_TEST=1 $(PY) -m pytest tests/package

repo: $(STAMP)                   ## a signed apt repository of dist/*.deb, into dist/repo; GNUPG=FOLDER has the key
	@bash tools/setup/repo.sh
	$(PY) -m tools.repo --gnupg $(or $(GNUPG),dist/gnupg) --make-key

fleet-update: $(STAMP)           ## a good and a poisoned release over 1,000 machines, power cuts; some minutes
	$(PY) -m tools.fleet_update
	@if [ "$$(id -u)" = 0 ]; then bash tools/setup/debootstrap.sh && bash tools/setup/repo.sh \
		&& DEB_TEST=1 $(PY) -m pytest tests/package/test_updates.py; \
	else echo "fleet-update: not root, so the three machines from packages are left out"; fi

docs: $(STAMP)                   ## the pages and pictures that are made from code and tests
	$(PY) -m tools.pages.state_machine
	$(PY) -m tools.pages.behaviour
	$(PY) -m tools.pages.devices
	$(PY) -m tools.pages.contracts
	$(PY) -m tools.pages.watch
	$(PY) -m tools.pages.outputs
	$(PY) -m tools.pages.manual
	$(PY) -m tools.pages.explanations
	$(PY) -m tools.messages

campaign: $(STAMP)               ## 20,000 random lives of the core beside its model; half an hour
	CORE_EFFORT=20000 $(PY) -m pytest tests/statemachine/whole/test_model.py

mutants: $(STAMP)                ## small faults in the core, and which its tests notice; some two hours
	$(PY) -m tools.mutants

fault-matrix: $(STAMP)           ## every fault x phase x actor, planted bugs, random pairs; about an hour
	$(PY) -m tools.fault_matrix

attack: $(STAMP) broker          ## every test of an attack, by the names of their cases; some minutes
	$(PY) -m pytest -k "test_x1_ or test_x2_ or test_x3_ or test_x4_ or test_x5_ or test_x6_ or test_x7_ or test_x8_ or test_x9_"

fuzz: $(STAMP)                   ## a million damaged frames into every codec; some minutes
	$(PY) -m tools.fuzz

screenshots: $(STAMP) broker browser  ## pictures of the pages, from a running bench, into docs/screens
	$(PY) -m tools.pages.screens

sbom:                            ## CycloneDX bills of materials of device and gateway, into dist/
	@PYTHON=$(PYTHON) bash tools/setup/sbom.sh

lock: $(STAMP)                   ## new pins from pyproject.toml (needs uv on the PATH)
	bash requirements/lock.sh

clean:                           ## everything that make created, the bench's journal included
	rm -rf $(VENV) .bench build dist *.egg-info .mypy_cache .ruff_cache .hypothesis mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: broker postgres fuzz
broker:
	@bash tools/setup/broker.sh

postgres:
	@bash tools/setup/postgres.sh

.PHONY: browser
browser:
	@bash tools/setup/browser.sh

.PHONY: repo-tools
repo-tools:
	@bash tools/setup/repo.sh

.PHONY: tpm
tpm:
	@bash tools/setup/tpm.sh

.PHONY: systemd
systemd:
	@bash tools/setup/systemd.sh

$(STAMP): requirements/all.txt pyproject.toml tools/setup/venv.sh
	@PYTHON=$(PYTHON) bash tools/setup/venv.sh $(VENV) requirements/all.txt
	@touch $@ $(DEMO)

$(DEMO): requirements/demo.txt pyproject.toml tools/setup/venv.sh
	@PYTHON=$(PYTHON) bash tools/setup/venv.sh $(VENV) requirements/demo.txt
	@touch $@
