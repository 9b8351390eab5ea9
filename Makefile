# The front door. Every target sets up what it needs (scripts/setup.sh) and can be the first one typed.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR    ?=
CARGO      ?= cargo
CC         ?= cc
CFLAGS     ?= -O2 -g

# Where cargo puts what it builds, and where the C programs go.
OUT   := $(abspath $(or $(CARGO_TARGET_DIR),target))
BUILD := $(OUT)/c

# Where scripts/setup.sh puts a Node when the machine's is missing or too old.
export PATH := $(OUT)/node/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build addon demo test test-node-matrix check header install uninstall asan tsan valgrind bench bench-quick bench-node faults clean

help:
	@echo 'make demo       4 workers serve one port, one is killed in the middle: shows what was lost (HOLD=1: leaves it running)'
	@echo 'make test       all tests: Rust, C, Node, examples, installation, packages, ABI'
	@echo 'make check      format, lints, types, header, symbols, licences, scripts'
	@echo 'make header     writes include/cluster.h anew from the comments in capi/src'
	@echo 'make build      libcluster.so and libcluster.a, in target/release'
	@echo 'make addon      the npm package cluster-rs, ready to be required from node-addon'
	@echo 'make test-node-matrix   the tests of the npm package under other versions of Node (NODES="$(NODES)")'
	@echo 'make install    PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) DESTDIR=$(DESTDIR)'
	@echo 'make uninstall  takes away what install put there'
	@echo 'make asan       the tests under the address, leak and undefined-behaviour sanitizers (TESTS="test_x ...": only these in C)'
	@echo 'make tsan       random calls of header-only C under the thread sanitizer'
	@echo 'make valgrind   the C tests under valgrind (TESTS="test_x ...": only these)'
	@echo 'make bench      side by side with the alternatives: writes bench/results and docs/performance-figures.md; under 2 hours'
	@echo '                ARGS="--against OLD cost http": against the build in another checkout, fails where this one is slower'
	@echo 'make bench-quick        the same in 5 minutes, for a look (ARGS="--only passed,kernel cost")'
	@echo 'make bench-node what cluster-rs changes against node:cluster (ARGS="rounds figure ...")'
	@echo 'make faults     every promise under faults and attack: writes docs/reliability-figures.md; two hours (PARTS="10 80": only these)'
	@echo 'make clean      removes everything that was built'

# cargo names the library libcluster.so only; programs look for its SONAME, also those run from the checkout.
define build_library
@scripts/setup.sh build
$(CARGO) build --release -p cluster-capi
@ln -sfn libcluster.so "$(OUT)/release/$$(scripts/soname.sh $(OUT)/release/libcluster.so)"
endef

build:
	$(build_library)

define build_addon
@scripts/setup.sh addon
@CARGO="$(CARGO)" CARGO_TARGET_DIR=$(OUT) node node-addon/scripts/build.mjs
endef

addon:
	$(build_addon)

demo: build $(BUILD)/demo $(BUILD)/http_hello
	@$(BUILD)/demo $(BUILD)/http_hello

# The examples find the library where cargo left it, wherever they are started from.
$(BUILD)/%: examples/c/%.c $(wildcard examples/c/*.h) include/cluster.h $(OUT)/release/libcluster.so
	@mkdir -p $(BUILD)
	$(CC) $(CFLAGS) -Wall -Wextra -Iinclude $< -o $@ -L$(OUT)/release -Wl,-rpath,$(OUT)/release -Wl,--as-needed -lcluster -pthread

# Contenders whose program cannot be had are left out, with a line that says so.
define build_bench
@scripts/setup.sh bench
$(build_library)
@scripts/setup.sh bench-contenders || echo 'bench: goes on without them'
@if node -e 0 2>/dev/null; then CARGO="$(CARGO)" CARGO_TARGET_DIR=$(OUT) node node-addon/scripts/build.mjs; fi
$(CARGO) build --release -p cluster-bench
endef
BENCH = CC=$(CC) $(OUT)/release/cluster-bench --root . --library $(OUT)/release --out $(OUT)/bench

# Only a whole run is recorded unasked; ARGS="--record cost" records one figure.
bench:
	$(build_bench)
	@$(BENCH) $(or $(ARGS),--record)

bench-quick:
	$(build_bench)
	@$(BENCH) --quick $(ARGS)

bench-node:
	$(build_addon)
	@CC=$(CC) node bench/node/bench.cjs $(ARGS)

# All parts write docs/reliability-figures.md anew; single ones (PARTS="10 80") only tell.
faults:
	@scripts/setup.sh faults
	$(build_library)
	@if node -e 0 2>/dev/null; then CARGO="$(CARGO)" CARGO_TARGET_DIR=$(OUT) node node-addon/scripts/build.mjs; fi
	$(CARGO) build --release -p cluster-faults
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) CARGO_TARGET_DIR=$(OUT) scripts/faults.sh $(PARTS)

# Only built when the sources are newer, so that `sudo make install` after `make build` needs no Rust of root's.
SOURCES := Cargo.toml $(wildcard Cargo.lock */Cargo.toml capi/build.rs) $(shell find core/src capi/src -name '*.rs')
$(OUT)/release/libcluster.so: $(SOURCES)
	$(build_library)
	@touch $@

test:
	@scripts/setup.sh test
	$(build_library)
	$(build_addon)
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) scripts/test.sh

# The machine's own Node is what `make test` runs; these are fetched into $(OUT)/nodes.
NODES ?= 22 24 26
test-node-matrix:
	@scripts/setup.sh test
	$(build_library)
	$(build_addon)
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) NODES_IN=$(OUT)/nodes scripts/node_matrix.sh $(NODES)

check:
	@scripts/setup.sh check
	@CARGO_TARGET_DIR=$(OUT) scripts/check.sh

header:
	@scripts/setup.sh build
	CL_BLESS=1 $(CARGO) test -q -p cluster-capi --test header

install: $(OUT)/release/libcluster.so
	@scripts/setup.sh install
	@FROM=$(OUT)/release PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) INCLUDEDIR=$(INCLUDEDIR) DESTDIR=$(DESTDIR) scripts/install.sh install

uninstall:
	@PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) INCLUDEDIR=$(INCLUDEDIR) DESTDIR=$(DESTDIR) scripts/install.sh uninstall

# The library itself is instrumented, so a fault inside it is seen in the C tests too, and leaks on either side are.
# Build scripts are spared by naming the target; RUSTC_BOOTSTRAP opens the one unstable flag of a stable compiler.
ASAN_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
ASAN_OUT    = $(OUT)/asan/$(ASAN_TARGET)/debug
ASAN_CARGO  = RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$(OUT)/asan $(CARGO)
asan:
	@scripts/setup.sh asan
	$(ASAN_CARGO) build --examples --target $(ASAN_TARGET)
	$(ASAN_CARGO) test --lib --tests --target $(ASAN_TARGET) -- --test-threads=1
	$(ASAN_CARGO) build -p cluster-capi --target $(ASAN_TARGET)
	@nm -D $(ASAN_OUT)/libcluster.so | grep -q __asan_init || { echo 'the library is not instrumented'; exit 1; }
	@BUILD=$(BUILD) LIBDIR=$(ASAN_OUT) CC=$(CC) tests/rigs/sanitizers/planted.sh asan
	@BUILD=$(BUILD) LIBDIR=$(ASAN_OUT) CC=$(CC) tests/rigs/torture/run.sh asan
	@BUILD=$(BUILD) LIBDIR=$(ASAN_OUT) CC=$(CC) tests/c/run.sh asan $(TESTS)

# The worker's side in header-only C, whose primary is not instrumented. Rust's own standard library would have to be built anew
# for the rest, which a stable toolchain cannot: what synchronizes inside it goes unseen, and what it guards is reported.
tsan:
	@scripts/setup.sh tsan
	$(build_library)
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) tests/rigs/sanitizers/planted.sh tsan
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) tests/rigs/torture/run.sh tsan

valgrind:
	@scripts/setup.sh valgrind
	$(build_library)
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) tests/rigs/sanitizers/planted.sh valgrind
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) tests/rigs/torture/run.sh valgrind
	@BUILD=$(BUILD) LIBDIR=$(OUT)/release CC=$(CC) tests/c/run.sh valgrind $(TESTS)

clean:
	$(CARGO) clean
	rm -rf node-addon/*.node node-addon/node_modules $(wildcard tests/*/node_modules tests/rigs/*/node_modules)
