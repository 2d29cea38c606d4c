# What to type: `make testnet` to see a network, `make test` to test, `make verify` before a commit. `make help` lists all.
#
# One profile (release) and the whole workspace for every command, so that RocksDB, which takes a C++ compiler twenty minutes on
# two cores, is compiled once: docs/adr/002-one-release-profile.md.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export PATH := $(HOME)/.cargo/bin:$(PATH)

# clang++ compiles RocksDB faster than g++ and with half the memory. CXX=... on the command line or in the environment wins.
ifeq ($(origin CXX),default)
CXX := clang++
endif
export CXX

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TOOLS_DIR := $(HOME)/.cache/tercet/tools
FLAGS := --locked --release --workspace

# How `make testnet` looks, such as `make testnet VALIDATORS=7 ARGS=--reset`.
VALIDATORS ?= 4
DEMO_TXS ?= 5
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help prepare build testnet test verify fix advisories bench

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

prepare: ## Install what is missing on this machine (Debian, Ubuntu)
	@scripts/prepare.sh

build: prepare ## Build everything
	@scripts/build.sh cargo build $(FLAGS)

testnet: build ## Start four validators, commit transactions, stop with Ctrl-C
	@$(TARGET_DIR)/release/tercet-testnet up --validators $(VALIDATORS) --demo-txs $(DEMO_TXS) $(ARGS)

test: prepare ## Run every test
	@scripts/prepare.sh browser
	@scripts/build.sh cargo test $(FLAGS)
	@scripts/build.sh cargo build $(FLAGS)
	@scripts/light-wasm.sh
	@scripts/adversary.sh

verify: prepare ## Check format, lints, documentation, dependencies; changes nothing
	cargo fmt --all --check
	@scripts/build.sh cargo clippy $(FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(FLAGS) --no-deps
	@scripts/cargo-deny.sh $(TOOLS_DIR) check --hide-inclusion-graph bans licenses sources

fix: prepare ## Format, and repair what clippy can repair
	cargo fmt --all
	cargo clippy $(FLAGS) --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

advisories: prepare ## Look for known vulnerabilities in dependencies (needs the network)
	@scripts/cargo-deny.sh $(TOOLS_DIR) advisories

bench: prepare ## Run the benchmarks
	@scripts/build.sh cargo bench --locked --profile release --workspace --benches
