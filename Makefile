# The two commands: `make run` and `make test`. Everything they need is installed by tools/setup.
SHELL := /bin/bash
.PHONY: setup build run test

setup:
	@tools/setup

build: setup
	cmake --preset release
	cmake --build --preset release
