# The two commands are `make run` and `make test`; both do everything, from a fresh clone on a fresh
# Debian 12 as root. Packages come from tools/setup.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
BUILD := build/release

.PHONY: help build run test test-all bench bench-quick bench-spinning docs clean setup-build setup-test setup-all setup-bench

help:
	@echo 'make build     $(BUILD)/bin/runsc, one static executable'
	@echo 'make run       build, then a demonstration container (on a terminal: a shell in it)'
	@echo 'make test      everything a change must pass; the last line has the counts'
	@echo 'make test-all  and what takes longer: units, guests and programs with sanitizers'
	@echo 'make bench     the figures of benchmarks/, into build/bench (about half an hour)'
	@echo 'make bench-quick  the same, rougher, in less than five minutes'
	@echo 'make bench-spinning  busy guest threads with and without spinning (ten minutes)'
	@echo 'make docs      generated documents'

setup-build:
	@tools/setup build

setup-test:
	@tools/setup test

setup-all:
	@tools/setup all

setup-bench:
	@tools/setup bench

$(BUILD)/build.ninja: | setup-build
	cmake --preset release

build: setup-build $(BUILD)/build.ninja
	cmake --build $(BUILD) -j $(JOBS) --target runsc

run: build
	@tools/demo $(BUILD)/bin/runsc

test: setup-test
	@tools/run_tests --jobs $(JOBS)

test-all: setup-all
	@tools/run_tests --jobs $(JOBS) --all

bench-spinning: setup-bench $(BUILD)/build.ninja
	cmake --build $(BUILD) -j $(JOBS) --target runsc benchmarks
	@benchmarks/spinning.py --build $(BUILD)

bench bench-quick: setup-bench $(BUILD)/build.ninja
	cmake --build $(BUILD) -j $(JOBS) --target runsc benchmarks
	@benchmarks/run.py --build $(BUILD) $(if $(filter bench-quick,$@),--quick)

docs:
	@tools/gen_compat
	@if [ -x $(BUILD)/bin/runsc ]; then $(BUILD)/bin/runsc internal-oci-doc > docs/oci.md; fi

clean:
	rm -rf build
