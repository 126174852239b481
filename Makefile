# Weft. `make setup` once, `make demo` to see it run, `make test` and `make e2e` to pass the tests.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
BIN := target/debug
RELEASE := target/release
SHOP := examples/shop
SERVICES := user product order ticket chat payment notification mailbox
# Whoever sets CARGO_TARGET_DIR finds the binaries there.
ifdef CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/release
endif

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Install what building, running and testing need (Debian and Ubuntu; says what to do elsewhere)
	@./setup.sh servers browser conformance tools cluster

.PHONY: build
build: ## Build every binary (dev profile)
	$(CARGO) build --workspace --bins

.PHONY: demo
demo: ## Run the whole mesh with the example shop; Ctrl-C takes everything down
	@./setup.sh servers
	$(CARGO) build --workspace --bins
	$(BIN)/weft run $(SHOP)

.PHONY: tour
tour: ## Walk through the running demo, request by request
	@WEFT=$(BIN)/weft $(SHOP)/tour.sh

.PHONY: test
test: ## All tests, the tour against real processes included
	@./setup.sh servers browser conformance
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace

.PHONY: check
check: ## Format, lints, licences, generated files
	@./setup.sh tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny --log-level error check bans licenses sources
	$(CARGO) test --quiet --workspace --test schema

.PHONY: audit
audit: ## Known vulnerabilities among the dependencies (fetches the advisory database)
	$(CARGO) deny check advisories

.PHONY: generate
generate: ## Rewrite generated files (the CRD manifests, the shop's chart)
	$(CARGO) run -p weft-crds --bin crdgen
	cp $(SERVICES:%=$(SHOP)/%.yaml) $(SHOP)/gateway.yaml charts/shop/manifests/

.PHONY: bench
bench: ## All loads against nginx, HAProxy and Envoy into e2e/bench/README.md (release profile; about 15 minutes)
	@./setup.sh servers bench
	$(CARGO) build --release --workspace --bins
	$(RELEASE)/bench --write $(BENCH)

.PHONY: load-report
load-report: ## The shop under load into e2e/load/README.md (release profile; about 5 minutes)
	@./setup.sh servers
	$(CARGO) build --release --workspace --bins
	e2e/load/report.sh $(RELEASE)

.PHONY: images
images: ## Docker images of Weft and of the shop, release profile (about ten minutes)
	@./setup.sh cluster
	$(CARGO) build --release --workspace --bins
	e2e/cluster/images.sh $(RELEASE)

.PHONY: load
load: ## Put these images onto the nodes of the cluster that `make cluster` made
	e2e/cluster/cluster.sh load $$(e2e/cluster/images.sh --test-names | grep -v weft-e2e/)

.PHONY: e2e
e2e: ## All tests on a Kubernetes cluster made for them; KEEP=1 leaves it for looking around
	@./setup.sh cluster
	$(CARGO) build --workspace --features weft-e2e-kind/cluster --bins --test kind
	@CARGO="$(CARGO)" KEEP="$(KEEP)" e2e/cluster/suite.sh $(BIN)

.PHONY: cluster
cluster: ## A kind cluster named weft, with the Gateway API, to try things in
	@./setup.sh cluster
	@e2e/cluster/cluster.sh up

.PHONY: cluster-down
cluster-down: ## Delete it, and stop what it needed
	@e2e/cluster/cluster.sh down
