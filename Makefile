# make demo    wiretick against an exchange of its own, in namespaces of its own: what it does, in one table
# make bench   the measurement: all modes, kernel sockets and peers at all loads; writes docs/bench/REPORT.md; 15 minutes
# make bench-quick   its main table; 2 minutes
# make test-vm wiretick on Debian's kernels and real drivers, in virtual machines; some 15 minutes; VM="--kernel newest --nic igb"
# make test    everything that can be tested on this machine
# make instructions   counts the instructions of every stage, and fails where one has become more than 5 % worse
# make fuzz    coverage-guided fuzzing, a minute for each target; FUZZ_SECONDS=600, FUZZ_TARGETS="frame_walk handover"
# make miri    the code that is unsafe, in an interpreter that notices undefined behaviour; some minutes
# make lint    formatting, lints, documentation
# make help    this text

CARGO ?= cargo

# The compiler for cargo-fuzz and Miri. Nothing else needs it.
NIGHTLY ?= nightly
FUZZ_SECONDS ?= 60
# A part of a name is a match, and control::steering:: has the first one. A ring that is dropped while frames are out leaks on purpose.
MIRI_TESTS = ring:: floor:: --skip control::
FUZZ_TARGETS ?= $(notdir $(wildcard userspace/fuzz/seeds/*))

.PHONY: help setup build build-tests build-instructions demo bench bench-quick root peers test test-vm instructions nightly fuzz miri lint clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@scripts/setup

build: setup
	$(CARGO) build --release --locked -p wiretick -p wiretick-testbed -p wiretick-bench --bins

demo: build
	@exec target/release/testbed demo

bench: root build peers
	target/release/bench full --out docs/bench

bench-quick: root build peers
	target/release/bench quick

# Asked first, or a build of minutes would be for nothing.
root:
	@test "$$(id -u)" = 0 || { echo "make: network namespaces and XDP need root: run it with sudo" >&2; exit 1; }

# The clients that wiretick is compared with. Those that cannot be had are skipped, by name.
peers: setup
	@if test -x benches/peers/install; then benches/peers/install; fi

# Without root, the tests that need it are named and skipped; so are those that need captured feeds where there are none.
test: setup
	$(CARGO) test --profile checked --locked --workspace

# The programs that the tests have built: built otherwise, with the features of other crates or without the tests', every dependency
# would be built once more. Kernels are fetched once, into target/vm. VM: options of `testbed vm test`.
test-vm: root setup
	scripts/setup-vm
	@$(MAKE) build-tests
	target/checked/testbed vm test $(VM)
	WIRETICK_VM=1 $(CARGO) test --profile checked --locked --workspace --test vm

# Figures of the release profile: the only ones that mean anything. `make instructions ACCEPT=1` commits to those of this
# build instead.
INSTRUCTIONS = --profile bench --locked -p wiretick-stages --bin instructions

instructions: setup
	$(CARGO) run $(INSTRUCTIONS) -- $(if $(ACCEPT),--accept,--check)

# Without running anything.
build-tests: setup
	$(CARGO) test --profile checked --locked --workspace --no-run

build-instructions: setup
	$(CARGO) build $(INSTRUCTIONS)

nightly:
	@$(CARGO) +$(NIGHTLY) --version >/dev/null 2>&1 || \
		{ echo "make: no $(NIGHTLY) compiler: rustup toolchain install $(NIGHTLY) --profile minimal" >&2; exit 1; }

# Stops at the first finding and says where its input is. What the fuzzer learns stays in userspace/fuzz/corpus.
fuzz: setup nightly
	@command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	@set -e; cd userspace/fuzz; for target in $(FUZZ_TARGETS); do \
		echo "make: $$target for $(FUZZ_SECONDS) s"; mkdir -p corpus/$$target; \
		dictionary=dictionaries/$$target.dict; test -f $$dictionary && dictionary=-dict=$$dictionary || dictionary=; \
		$(CARGO) +$(NIGHTLY) fuzz run --fuzz-dir . $$target corpus/$$target seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 $$dictionary; \
	done

# Of the library's own tests, those of unsafe code that needs neither C code nor system calls: the rest of it cannot run in Miri.
miri: setup nightly
	@$(CARGO) +$(NIGHTLY) miri --version >/dev/null 2>&1 || rustup component add miri rust-src --toolchain $(NIGHTLY)
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" $(CARGO) +$(NIGHTLY) miri test --locked -p wiretick --lib -- $(MIRI_TESTS)

# The profile of the tests, so that what C code there is below is built once for both.
lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path userspace/fuzz/Cargo.toml --check
	$(CARGO) clippy --profile checked --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --profile checked --locked --workspace --no-deps --document-private-items

clean:
	$(CARGO) clean
