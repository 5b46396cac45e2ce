# For people who like make; every target is one go command.

.PHONY: help dev build test race lint bench

help: ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

dev: ## Temporal, its Web UI, a worker and the MCP endpoint in one process
	go run ./cmd/longhaul dev

build: ## The binary for production, without the embedded Temporal
	CGO_ENABLED=0 go build -tags noembed -trimpath -o longhaul ./cmd/longhaul

test: ## All tests
	go test ./...

# The packages that link the embedded Temporal take minutes to build with the
# race detector.
race: ## The tests of what does not link the embedded Temporal, with the race detector
	go test -race . ./activities ./engine ./internal/demo ./task ./upstream ./workflows

lint: ## gofmt, go vet and golangci-lint
	test -z "$$(gofmt -l .)"
	go vet ./...
	golangci-lint run

bench: ## Side by side with bare Temporal
	go test -run '^$$' -bench . ./bench
