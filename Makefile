# make demo    wiretick against an exchange of its own, in namespaces of its own: what it does, in one table
# make bench   the measurement: all modes, kernel sockets and peers at all loads; writes docs/bench/REPORT.md; 15 minutes
# make bench-quick   its main table; 2 minutes
# make test    everything that can be tested on this machine
# make instructions   counts the instructions of every stage, and fails where one has become more than 5 % worse
# make lint    formatting, lints, documentation
# make help    this text

CARGO ?= cargo

.PHONY: help setup build demo bench bench-quick root peers test instructions lint clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup:
	@scripts/setup

build: setup
	$(CARGO) build --release --locked --bins

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

# Figures of the release profile: the only ones that mean anything. `make instructions ACCEPT=1` commits to those of this
# build instead.
instructions: setup
	$(CARGO) bench --locked -p wiretick --bench instructions -- $(if $(ACCEPT),--accept,--check)

# The profile of the tests, so that what C code there is below is built once for both.
lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --profile checked --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --profile checked --locked --workspace --no-deps --document-private-items

clean:
	$(CARGO) clean
