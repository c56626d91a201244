# Ostro. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export CGO_ENABLED := 0

# `make soak`: minutes for each fuzz target, kills under random DAGs, and seconds of the long task. `make bench`: see scripts/bench.sh.
FUZZ_MINUTES ?= 5
KILLS ?= 1000
LONG ?= 60

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help build demo test check fmt bench conformance soak envs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/ostro: one binary, no cgo, the Python runtime inside
	go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ostro ./cmd/ostro

demo: build ## Run the fraud-detection pipeline (GATE=0.999 to see it fail, DEMO_EXIT=1 to stop after it, OSTRO_PORT=8090)
	@scripts/debian-packages
	@scripts/python-env demo >/dev/null
	@GATE="$(GATE)" DEMO_EXIT="$(DEMO_EXIT)" scripts/demo.sh

test: ## Run every test, as CI does; installs what is lacking
	@scripts/test

check: ## Vet, format and lint the Go and Python code
	@scripts/check

fmt: ## Format the Go and Python code
	gofmt -w $$(git ls-files '*.go')
	"$$(scripts/python-env tools "$$(scripts/find-python newest)")"/bin/ruff format --quiet python scripts bench examples/*/ml

bench: build ## Measure Ostro beside Airflow on this machine, SUITE=engine the engine alone (installs PostgreSQL)
	@scripts/python-env demo >/dev/null
	@scripts/bench.sh

conformance: build envs ## Ask genuine Airflow again what the DAG files of examples/conformance do (RENEW=1 writes the goldens)
	@scripts/conformance.sh

soak: build envs ## Long fuzzing and many kills: the tests that take hours
	@FUZZ_MINUTES=$(FUZZ_MINUTES) KILLS=$(KILLS) LONG=$(LONG) scripts/soak

envs: ## Make the Python environments of the tests and the demo
	@scripts/test-envs

clean: ## Remove what was built; the Python environments stay (they are in .venvs)
	rm -rf bin .cache demo-home
