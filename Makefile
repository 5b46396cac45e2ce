# For people who like make; every target is one go command.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
WORKFLOWCHECK := go.temporal.io/sdk/contrib/tools/workflowcheck@v0.6.0

.PHONY: help dev build test race conformance chaos lint bench

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

dev: ## Temporal, its Web UI, a worker and the MCP endpoint in one process
	go run ./cmd/longhaul dev

build: ## The binary for production, without the embedded Temporal
	CGO_ENABLED=0 go build -tags noembed -trimpath -o longhaul ./cmd/longhaul

test: ## All tests
	go test ./...

# The packages that link the embedded Temporal take minutes to build with the
# race detector, and so do tests on 50 MiB of JSON.
race: ## The tests of what does not link the embedded Temporal, with the race detector
	go test -race -skip 'TestLarge$$' . ./activities ./api ./claims ./engine ./internal/demo ./task ./upstream ./worker ./workflows ./workflowtool

conformance: ## The official suite and clients; without npm it fails instead of skipping
	LONGHAUL_REQUIRE_NPM=1 go test -v ./conformance/...

chaos: ## Ten minutes of clients, kills and cuts, and a check of what came of it
	go run ./internal/chaos -duration 10m

lint: ## gofmt, go vet, golangci-lint and workflowcheck
	test -z "$$(gofmt -l .)"
	go vet ./...
	go run $(GOLANGCI_LINT) run
	go run $(WORKFLOWCHECK) -config .workflowcheck.yaml ./workflows/... ./workflowtool/... ./examples/...

bench: ## Side by side with the bare Temporal SDK and with others
	go run ./bench
