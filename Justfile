# Everyday recipes; `just` alone lists them. All of them use .venv, which `just setup` makes.

python := ".venv/bin/python"

_default:
    @just --list --unsorted

# --- set up and build ---

# Install what is missing, make .venv, build
[group('build')]
setup:
    tools/setup test dev

# Build the extensions in place
[group('build')]
build: setup
    {{python}} setup.py -q build_ext --inplace

# --- check ---

# Ruff over everything
[group('check')]
lint: setup
    {{python}} -m ruff check .

# mypy --strict over the package, the tools and the live harness
[group('check')]
types: setup
    {{python}} -m mypy
    MYPYPATH=tools {{python}} -m mypy -p rig
    MYPYPATH=tools:tests/live {{python}} -m mypy tools/demo.py tests/live/harness.py tests/live/conftest.py

# All tests; further arguments go to pytest
[group('check')]
test *arguments:
    tools/test {{arguments}}

# Tests that need no PipeWire
[group('check')]
unit *arguments:
    tools/test -m "not live" {{arguments}}

# Tests on a private PipeWire
[group('check')]
live *arguments:
    tools/test -m live {{arguments}}

# What CI runs
[group('check')]
ci:
    .ci/run

# --- see ---

# Ten seconds from a device to a verified recording and demo.wav
[group('see')]
demo *arguments:
    tools/demo {{arguments}}
