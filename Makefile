# Sluice's commands; "make help" lists them. CONTRIBUTING.md says when to use which.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s
LINT      = go tool -modfile=tools/lint/go.mod golangci-lint
export VERSION

.DEFAULT_GOAL := help
.PHONY: run build image install test check fmt vet lint vuln unit test-drivers test-regress test-suites leakhunt bench fuzz generate clean help

run: build ## build Sluice and run its demo: a throwaway Postgres behind both ports
	bin/sluice demo

build: ## build bin/sluice, a static binary
	deploy/build.sh bin/sluice

image: ## build the container image sluice:VERSION
	docker build --build-arg VERSION=$(VERSION) --tag sluice:$(VERSION) .

install: ## install what the tests need and is not here yet
	test/install

test: install fmt vet lint ## install what the tests need and run everything
	CGO_ENABLED=1 go test -race -timeout 15m ./...

check: fmt vet lint unit ## what must be green on every commit

fmt: ## fail if a file is not gofmt'ed
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not gofmt'ed:" $$files; exit 1; fi

vet: ## go vet
	go vet ./...

lint: ## golangci-lint, built from the version that tools/lint pins
	$(LINT) run ./...

vuln: ## fail if Sluice calls code with a known vulnerability; VULNDB=https://vuln.go.dev asks for what is newer than the copy
	test/vuln

unit: ## the tests of the packages, with Postgres but without foreign drivers or the race detector
	go test $$(go list ./... | grep -v '/test/')

test-drivers: ## every real driver, through Sluice: those of Java and Rust, too
	test/install --all
	SLUICE_TEST_EVERY_DRIVER=1 CGO_ENABLED=1 go test -race -count=1 -timeout 30m ./test/drivers/...

test-regress: ## PostgreSQL's own regression suite, directly and through both ports; on Debian: CONTRIBUTING.md
	test/install --regress
	go run ./test/suites -suites regress,isolation $(SUITES)

test-suites: ## the suites of tokio-postgres and postgres.js, directly and through both ports: CONTRIBUTING.md
	test/install --all
	go run ./test/suites -suites tokio-postgres,postgres.js $(SUITES)

leakhunt: ## ten minutes of random clients, each compared with a connection of its own, in front of a real Postgres
	CGO_ENABLED=1 go test -race -count=1 -timeout 20m -v ./test/leakhunt -leakhunt.duration 10m

bench: build ## compare with PgBouncer and with Postgres alone; BENCH="-only simple" for less: bench/README.md
	go run ./bench $(BENCH)

fuzz: ## run each fuzz target for FUZZTIME (10s)
	test/fuzz $(FUZZTIME)

generate: ## make the files that are generated from others
	go generate ./...
	UPDATE=1 go test -count=1 -run '^TestDepguardEqualsTheTable$$' .

clean: ## remove what was built and installed into this folder
	rm -rf bin dist bench/.cache bench/results test/versions/.cache test/suites/.cache test/drivers/.venv test/drivers/node_modules \
	  test/drivers/java/target test/drivers/rust/target

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
