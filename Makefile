# make help lists the targets. Go and make are all that build and test need;
# race also needs a C compiler.

GO       ?= go
FUZZTIME ?= 50000x

.DEFAULT_GOAL := help
.PHONY: build test race fuzz vet bench clean help

build: ## build bin/gpool, one static file
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/gpool ./cmd/gpool

test: ## run all tests
	$(GO) test ./...

# Under the detector a process takes far longer to start. The tests that start by far the
# most of them are left to test: what runs in them at once runs in the others too.
race: ## run the tests under the race detector, but for scripts and documents
	CGO_ENABLED=1 $(GO) test -race -skip '^(TestScript|TestDocumentsRun|TestSharedExampleScripts|TestBats.*)$$' ./...

# FUZZTIME is a number of runs or a time. A number is the default: at the end of a
# time, go test -fuzz now and then takes its own deadline for a failure of the target.
# Go fuzzes one target at a time, so they are listed first. The list is made apart
# from the loop: a package that does not compile must not look like one without any.
fuzz: ## run every fuzz target FUZZTIME (50000x) times, or for so long (1m)
	@set -eu; \
	list=$$($(GO) test -list '^Fuzz' ./...); \
	printf '%s\n' "$$list" | \
	awk '/^Fuzz/ { name[++n] = $$1 } /^ok/ { for (i = 1; i <= n; i++) print $$2, name[i]; n = 0 }' | \
	while read -r package target; do \
		echo "fuzz $$target of $$package for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$package" </dev/null; \
	done

vet: ## go vet, and gofmt on every file
	$(GO) vet ./...
	@files=$$(gofmt -l .) && if [ -n "$$files" ]; then printf 'not formatted, run gofmt -w on:\n%s\n' "$$files"; exit 1; fi

bench: ## run the benchmarks of the parts, and whole runs against their peers
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./bench -write docs/benchmarks.md

clean: ## remove what build made
	rm -rf bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile
