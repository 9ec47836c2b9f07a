# wirelab: `make up` brings a verified lab up, `make test` runs every test.
# Both prepare the machine first and may be repeated at any time.

PROFILE ?= kubeproxy
NAME    ?= $(PROFILE)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
LDFLAGS   := -s -w -X wirelab.dev/wirelab/internal/version.Version=$(VERSION) -X wirelab.dev/wirelab/internal/version.Commit=$(COMMIT)
GO_BUILD  := go build -trimpath -ldflags '$(LDFLAGS)'
GO_TOOL   := go tool -modfile=hack/tools/go.mod
SOURCES   := $(shell git ls-files -co --exclude-standard -- '*.go' '*.o' '*.yaml' '*.tpl' '*.json' '*.txt' 'internal/ui/page/*' go.mod go.sum 2>/dev/null)
# What lab alone carries beside them.
PAGES     := $(shell git ls-files -co --exclude-standard -- 'docs/*' '*.html' '*.css' '*.js' '*.svg' 2>/dev/null)
PAYLOAD   := images/payload
CARRIED   := wirelab-agent wirelab-operator wirelab-relay wirelab-cni nettool demo-tools.tar
PACKED    := $(CARRIED:%=$(PAYLOAD)/%.zst)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ a lab
.PHONY: up down verify
up: deps build ## bring PROFILE (kubeproxy) up as lab NAME (=PROFILE) and verify it
	bin/lab image $(PROFILE) >/dev/null || $(MAKE) node-image
	bin/lab up $(PROFILE) --name $(NAME)

down: build ## remove lab NAME
	bin/lab down $(NAME)

verify: build ## run the checks against lab NAME
	bin/lab verify $(NAME)

##@ what it is made of
.PHONY: deps build node-image generate page-vendor
deps: ## install what is missing on this machine, from the distribution's packages
	hack/deps.sh

build: bin/lab ## every binary, in bin/

bin/lab: $(SOURCES) $(PAGES) $(PACKED)
	$(GO_BUILD) -o $@ ./cmd/lab

bin/wirelab-agent: $(SOURCES)
	$(GO_BUILD) -o $@ ./cmd/agent

bin/wirelab-operator: $(SOURCES)
	$(GO_BUILD) -o $@ ./cmd/operator

bin/wirelab-relay: $(SOURCES)
	$(GO_BUILD) -o $@ ./cmd/relay

bin/wirelab-cni: $(SOURCES)
	$(GO_BUILD) -o $@ ./cmd/cni

bin/nettool: $(SOURCES)
	$(GO_BUILD) -o $@ ./cmd/nettool

$(PACKED): $(PAYLOAD)/%.zst: bin/% images/pack/main.go
	go run ./images/pack $< $@

bin/demo-tools.tar: $(wildcard images/demo/*)
	images/demo/build.sh $@

KUBERNETES ?=
node-image: deps ## the node image, from Debian's packages and Go modules alone; KUBERNETES=v1.36.3: with another Kubernetes
	KUBERNETES='$(KUBERNETES)' images/node/build.sh

generate: ## rewrite what is generated: the Go and objects of the BPF programs
	go generate ./bpf/...

page-vendor: ## fetch the libraries of lab ui's page as its lock file names them; needs npm
	internal/ui/page/vendor.sh

##@ proof
.PHONY: test lint test-generate test-unit test-page test-apiserver test-datapath test-kernels test-race test-platforms test-e2e
test: deps test-generate ## every test there is
	docker ps -aq --filter network=wirelab-e2e | xargs -r docker rm -f -v >/dev/null # labs of a run that was killed, which take processor time
	$(MAKE) -j 2 test-datapath test-race test-apiserver lint test-unit test-page # the longest first
	$(MAKE) test-kernels test-e2e

lint: ## formatting, vet, staticcheck, clang-tidy, unused exports, the import arrows, shell scripts
	hack/lint.sh

test-generate: ## generated code is what the sources say
	hack/check-generated.sh

# Packages with tests that need root run under test-datapath as a whole, so that no test runs twice.
# The agent's run under test-race.
ROOT_PACKAGES := ./bpf ./datapath ./internal/netnstest ./internal/agent ./cmd/agent ./cmd/nettool ./cmd/nettool/internal/tap ./bench/testbed ./bench/controlplane

# And so do those that need an API server under test-apiserver, and a browser under test-page.
APISERVER_PACKAGES := ./internal/crd ./internal/operator ./internal/relay
PAGE_PACKAGES := ./internal/ui ./internal/docsite
# These compile everything for other platforms. That takes minutes, so they are not part of make test.
PLATFORM_PACKAGES := ./hack/platforms

test-unit: ## tests that need nothing
	go test $$(go list ./... | grep -vxF "$$(go list $(ROOT_PACKAGES) $(APISERVER_PACKAGES) $(PAGE_PACKAGES) $(PLATFORM_PACKAGES))")

test-page: ## the page of lab ui and the pages of lab docs, in headless Chromium
	WIRELAB_TEST_STRICT=1 go test -count=1 $(PAGE_PACKAGES)

# kube-apiserver and etcd are those that the node image is made of.
test-apiserver: node-image ## what wirelab keeps in the API server, with a real one
	WIRELAB_TEST_STRICT=1 go test -count=1 $(APISERVER_PACKAGES)

test-datapath: ## the real programs in network namespaces; needs root
	WIRELAB_TEST_STRICT=1 go test -count=1 -timeout 30m $(filter-out ./internal/agent,$(ROOT_PACKAGES))

KERNEL  ?=
RUN     ?=
PACKAGE ?= ./datapath
test-kernels: deps ## what depends on the kernel, under others; needs root. One test: KERNEL=6.1 RUN=TestNodePort PACKAGE=./datapath
	go build -o bin/kernels ./hack/kernels
	bin/kernels -kernel '$(KERNEL)' $(if $(RUN),-v -run '$(RUN)' $(PACKAGE))

test-race: ## a whole agent, and Services that change while they are read, under the race detector; needs root and gcc
	CGO_ENABLED=1 WIRELAB_TEST_STRICT=1 go test -race -count=1 -timeout 30m ./internal/agent
	WIRELAB_TEST_STRICT=1 go test -count=1 -run '^TestFullFlowBuffer$$' ./internal/agent # which is about memory
	CGO_ENABLED=1 WIRELAB_TEST_STRICT=1 go test -race -count=1 -timeout 30m -run '^(TestListing|TestGenerations|TestChurn)' ./datapath
	CGO_ENABLED=1 go test -race -count=1 ./datapath/lb ./internal/agent/services

test-platforms: ## the programs for arm64, run under qemu-user, which has to be installed, and lab for macOS, compiled; takes minutes
	WIRELAB_TEST_STRICT=1 go test -count=1 -timeout 60m $(PLATFORM_PACKAGES)

# The flow API's own client, which takes minutes to build once.
bin/flow-client: e2e/flowclient/build.sh e2e/flowclient/go.mod e2e/flowclient/go.sum
	e2e/flowclient/build.sh $@

# The Kubernetes that one of the labs of e2e has in place of the default.
OTHER_KUBERNETES := v1.36.3

# What failed is told once more at the end.
test-e2e: deps build bin/flow-client ## lab itself on kind, every shipped profile; needs Docker
	bin/lab image >/dev/null || $(MAKE) node-image
	$(MAKE) node-image KUBERNETES=$(OTHER_KUBERNETES)
	WIRELAB_TEST_OTHER_KUBERNETES=$(OTHER_KUBERNETES) WIRELAB_TEST_STRICT=1 $(GO_TOOL) gotestsum --format standard-verbose -- -count=1 -tags e2e -timeout 90m ./e2e/...

##@ speed
.PHONY: bench
BENCH         ?=
BENCH_SAMPLES ?= bin/bench.jsonl
BENCH_REPORT  ?= bin/bench.md

bench: deps build ## measure against the goals of docs/performance.md, as root; BENCH="-rounds 9 …" for its flags
	mkdir -p bin
	go build -trimpath -o bin/bench ./bench/cmd
	bin/bench -samples $(BENCH_SAMPLES) -report $(BENCH_REPORT) $(BENCH)

##@ documentation
.PHONY: docs docs-pictures docs-recording
docs: build ## the documentation as static pages, in dist/docs; lab docs serves the same
	rm -rf dist/docs
	bin/lab docs --write dist/docs

LAB ?=
docs-pictures: deps build ## renew docs/pictures from real labs; LAB=name: from one that is up
	bin/lab image >/dev/null || $(MAKE) node-image
	hack/docs-pictures.sh $(LAB)

docs-recording: deps build ## renew docs/recording.svg from a terminal in which a lab is made
	bin/lab image >/dev/null || $(MAKE) node-image
	hack/docs-recording.sh

##@ a release
.PHONY: release release-check
release: ## static binaries, images, chart, checksums and SBOMs of this commit, in dist/release (docs/releases.md)
	go run ./hack/release dist/release

release-check: release ## make them again, with nothing compiled before, and compare; takes many minutes
	go run ./hack/release -check dist/release

.PHONY: clean
clean: ## remove what make built here; labs and caches stay
	rm -rf bin dist $(PACKED)
