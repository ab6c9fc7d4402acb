# What a person does with this tree. Each target installs what it needs: Debian packages when run as root (otherwise it
# says which are missing), Python packages into .venv.
#
#   make demo    a small guest under gdb, to see what this is
#   make test    everything that has to hold: style, types, tests (under 15 minutes)
#   make lint    style and types only
#   make fuzz    bytes that no debugger sends, to the gdb stub, for FUZZ_SECONDS (60)
#   make bench   the figures of bench/README.md on this machine
#   make docs    the reference pages that are generated from the code
#   make clean   remove what was built; .venv and the downloaded Linux stay (`make distclean` removes them too)

PYTHON ?= python3
VENV   ?= .venv
# Where the Linux guest is, for tests and benchmarks alike.
export DBGVMM_LINUX ?= $(CURDIR)/build/linux
# Test processes. More than 2 do not pay: the longest test is one guest.
JOBS   ?= 2
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60

BIN = $(VENV)/bin
RUN_PACKAGES  = python3-venv make gcc libc6-dev binutils gdb
TEST_PACKAGES = $(RUN_PACKAGES) graphviz lcov valgrind qemu-system-x86 busybox-static cpio lz4 zstd chromium

SHELL = /bin/bash
.SHELLFLAGS = -euo pipefail -c
MAKEFLAGS += --no-print-directory

demo: run-packages $(BIN)/dbgvmm guests
	@$(BIN)/dbgvmm demo

# pytest comes last, so that its summary is the last thing that is printed. A guest that hangs in the engine does not see
# signals: so time-outs end the test's process, and another one goes on with the rest.
test: test-packages $(VENV)/.test guests linux
	@$(MAKE) check-lint
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --timeout-method thread $(PYTEST_ARGS)

lint: run-packages $(VENV)/.test
	@$(MAKE) check-lint

check-lint:
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy bench/*.py
	$(BIN)/mypy examples/*.py

# Half of the time for the stub alone, half for a machine behind it. What they find stays in build/fuzz.
fuzz: run-packages $(VENV)/.fuzz guests
	@mkdir -p build/fuzz
	@cd build/fuzz && for target in example machine; do \
	    $(abspath $(BIN))/python $(CURDIR)/tests/fuzz/fuzz_stub.py $$target $$(( ($(FUZZ_SECONDS) + 1) / 2 )); \
	done

bench: test-packages $(BIN)/dbgvmm guests linux
	@$(BIN)/python bench/cpubound.py
	@$(BIN)/python bench/counting.py
	@$(BIN)/python bench/sampling.py
	@$(BIN)/python bench/linux.py
	@$(BIN)/python bench/gdb_stub.py --guest cpubound-small

docs: run-packages $(BIN)/dbgvmm
	@$(BIN)/python -m dbgvmm.commands.reference > docs/commands.md.new && mv docs/commands.md.new docs/commands.md
	@$(BIN)/python -m dbgvmm.debug.packet_reference > docs/gdb-packets.md.new && mv docs/gdb-packets.md.new docs/gdb-packets.md
	@echo "docs/commands.md, docs/gdb-packets.md: made from the code"

# -- what they need

run-packages:
	@scripts/need.sh $(RUN_PACKAGES)

test-packages:
	@scripts/need.sh $(TEST_PACKAGES)
	@scripts/need.sh lldb || echo "going on without lldb: its tests are skipped"

$(BIN)/python: | run-packages
	$(PYTHON) -m venv $(VENV)

$(BIN)/dbgvmm: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(BIN)/dbgvmm

$(VENV)/.fuzz: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@touch $@ $(BIN)/dbgvmm

guests: run-packages
	@$(MAKE) -C guests

linux: test-packages
	@scripts/linux.sh $(DBGVMM_LINUX) > /dev/null

clean:
	$(MAKE) -C guests clean
	rm -rf build/lib build/bdist.* dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find dbgvmm gdbstub tests bench -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) build

.PHONY: demo test lint check-lint fuzz bench docs run-packages test-packages guests linux clean distclean
.NOTPARALLEL:
