# make run    starts the platform         make test      runs the tests
# make check  lints, types, contracts     make generate  regenerates what comes from the protos
# make bench  measures                    make lock      locks newer dependencies
PYTHON ?= python3.11
BIN := .venv/bin
PROTOS = $(shell find proto/airis proto/buf -name '*.proto' | sort)
SERVICES = $(shell grep -l '^service ' $(PROTOS))
OTLP = $(shell find proto/opentelemetry -name '*_service.proto' | sort)

.PHONY: run test check setup generate bench lock
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
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code --path proto/airis
	$(BIN)/buf breaking --against proto/released.binpb
	$(MAKE) --no-print-directory generate
	@git diff --exit-code --stat -- gen envoy docs || { echo "Generated files differ: commit what 'make generate' made."; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard -- gen envoy docs)" || { echo "Generated files are not committed:"; git ls-files --others --exclude-standard -- gen envoy docs; exit 1; }

generate: setup
	find gen -name '*_pb2*.py*' -delete
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=gen --pyi_out=gen $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc -Iproto --grpc_python_out=gen $(SERVICES)
	$(BIN)/python -m grpc_tools.protoc -Iproto --include_imports --descriptor_set_out=gen/airis.binpb $(PROTOS) $(OTLP) proto/google/rpc/error_details.proto
	$(BIN)/python envoy/render.py

bench: setup
	$(BIN)/python -m bench.journal

lock:
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --extra dev --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
