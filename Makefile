# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the rest.
PY := .venv/bin/python
# CI=true runs the slow tests too; a laptop runs them with `make test-slow`.
SELECT := $(if $(filter true,$(CI)),,-m "not slow")
# More than cores: tests of servers mostly wait.
WORKERS = 3
# The slow tests want more versions of RabbitMQ; each takes a minute to install, once.
NEWER = rabbitmq-4.0 rabbitmq-4.3
SERVERS = rabbitmq ceph monitoring chromium pdf compose kubectl $(if $(filter true,$(CI)),$(NEWER))

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-image check audit sbom up down bench servers schemas dashboards env env-test env-bench lock clean

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: env ## simulate a small campaign, run it, end with the path of the report
	@sh deploy/demo.sh

test: check servers ## style, types and tests (the slow ones too when CI=true)
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup $(SELECT)

test-slow: SERVERS = rabbitmq ceph monitoring chromium pdf $(NEWER)
test-slow: env-test servers ## only the tests marked slow
	$(PY) -m pytest -m slow

test-image: SERVERS = rabbitmq ceph docker compose buildx
test-image: env-test servers ## build the images and run them as containers, in a Docker of the test's own (needs root)
	$(PY) -m pytest tests/image -m image -v -s --durations=10

check: env-test ## ruff, mypy, import-linter and hadolint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/hadolint Dockerfile

audit: env-test ## what is known against the locked packages, and against Debian's in build/sbom (needs a network)
	@sh deploy/audit.sh

# Where Docker's own client is not the first of that name, DOCKER says which.
IMAGES = nircam-darks-ingest nircam-darks-darkref nircam-darks-noise nircam-darks-cli
sbom: env-test ## what is in the images that Docker has, as CycloneDX, into build/sbom
	$(PY) deploy/sbom.py $(IMAGES) --out build/sbom

up: ## everything in containers on this machine, until it is healthy (Docker with Compose); OPTIONS="--scale ingest=3"
	@sh deploy/compose/up.sh $(OPTIONS)

down: ## stop what `make up` started; its data stay
	docker compose --file deploy/compose.yaml down

bench: env-test env-bench servers ## measure against the peers, into docs/performance.md (takes most of an hour)
	PYTHONPATH=tests $(PY) tests/benchmarks/bench.py

servers: ## the brokers and stores that the tests start, from the system's packages, where it may
	@sh deploy/install-servers.sh $(SERVERS)

schemas: env ## make deploy/schemas anew from the message models
	$(PY) -m shared.contracts.schemas deploy/schemas

dashboards: env-test ## make Grafana's dashboards in deploy/grafana anew from their code
	$(PY) deploy/grafana/build.py

env:
	@sh deploy/venv.sh requirements.lock

env-test:
	@sh deploy/venv.sh requirements-test.lock

# The peers that only benchmarks need, away from everything else; their lock is short enough to keep by hand.
env-bench: env-test
	@[ -x .venv-bench/bin/python ] || $(PY) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
	    -r requirements-bench.lock

lock: ## make both lock files anew from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --extra build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --all-extras -c requirements.lock pyproject.toml -o requirements-test.lock

clean: ## remove the demo and what tools left
	rm -rf demo build .pytest_cache .mypy_cache .ruff_cache .hypothesis
