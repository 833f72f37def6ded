# make run    starts the platform         make test      runs the tests
# make check  lints, types, contracts     make generate  regenerates what comes from the protos
# make bench  measures                    make lock      locks newer dependencies
# make servers  gets the real servers     make test-servers  runs the tests that need them
# make bench-peers  measures others' servers beside ours
# make bench-growth, bench-soak, bench-overload, bench-availability  an hour, 30 minutes, three times the load, kills
# make bench-queries-large  asks 100 million points, 10 million lines and 10 million spans
# make faults  gets the servers it needs, runs the whole matrix of docs/faults.md; with SEED=… the same again
# make fuzz    a million hostile inputs; with SEED=… the same again, with INPUTS=… fewer
PYTHON ?= python3.11
BIN := .venv/bin
PROTOS = $(shell find proto/airis proto/buf -name '*.proto' | sort)
SERVICES = $(shell grep -l '^service ' $(PROTOS))
JAEGER = $(shell find proto/jaeger -name '*.proto' | sort)
OTLP = $(shell find proto/opentelemetry -name '*_service.proto' | sort)
LOCK = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host
GENERATED = gen envoy docs deploy/grpc deploy/istio deploy/linkerd

.PHONY: run test servers test-servers faults fuzz check setup generate bench bench-peers bench-resilience bench-overload bench-availability bench-soak bench-growth bench-queries-large lock
.DEFAULT_GOAL := run

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

run: setup
	$(BIN)/airis up --demo

test: setup
	$(BIN)/python -m pytest -m "not servers and not faults"

servers: setup
	$(BIN)/python -m deploy.servers fetch

test-servers: setup
	$(BIN)/python -m pytest -m "servers and not faults"

faults: setup
	FAULTS_SEED=$(SEED) $(BIN)/python -m tests.faults

fuzz: setup
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000) $(if $(SEED),--seed $(SEED))

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path proto/airis
	$(BIN)/buf breaking --against proto/released.binpb
	$(MAKE) --no-print-directory generate
	@git diff --exit-code --stat -- $(GENERATED) || { echo "Generated files differ: commit what 'make generate' made."; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" || { echo "Generated files are not committed:"; git ls-files --others --exclude-standard -- $(GENERATED); exit 1; }

generate: setup
	find gen -name '*_pb2*.py*' -delete
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=gen --pyi_out=gen $(PROTOS) $(JAEGER)
	$(BIN)/python -m grpc_tools.protoc -Iproto --grpc_python_out=gen $(SERVICES)
	$(BIN)/python -m grpc_tools.protoc -Iproto --include_imports --descriptor_set_out=gen/airis.binpb $(PROTOS) $(OTLP) proto/google/rpc/error_details.proto
	$(BIN)/python -m grpc_tools.protoc -Iproto --include_imports --include_source_info \
		--descriptor_set_out=.venv/commented.binpb $(PROTOS) $(OTLP) proto/google/rpc/error_details.proto
	$(BIN)/python -m deploy.render .venv/commented.binpb

bench: setup
	$(BIN)/python -m bench

bench-peers: setup
	-$(BIN)/python -m bench.peers fetch
	$(BIN)/python -m bench.peers run

bench-resilience: setup
	$(BIN)/python -m bench.resilience --check

bench-overload: setup
	$(BIN)/python -m bench.overload 120

bench-availability: setup
	$(BIN)/python -m bench.availability --minutes 30

bench-soak: setup
	$(BIN)/python -m bench.soak --minutes 30

bench-growth: setup
	$(BIN)/python -m bench.growth

bench-queries-large: setup
	$(BIN)/python -m bench.queries --data-dir bench-results/query-data-large --points 100000000 --lines 10000000 --spans 10000000

lock:
	$(LOCK) --upgrade --extra dev --extra embedded --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --output-file requirements.runtime.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --output-file deploy/containers/build-requirements.lock \
		deploy/containers/build-requirements.in
