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
types:
    tools/types

# All tests; further arguments go to pytest
[group('check')]
test *arguments:
    tools/test {{arguments}}

# Tests that need no PipeWire, side by side
[group('check')]
unit *arguments:
    tools/test -n auto -m "not live and not faults" {{arguments}}

# Tests on a private PipeWire
[group('check')]
live *arguments:
    tools/test -m live {{arguments}}

# What a release is: sdist and wheel compiled anew, each installed by pip into an empty environment, each records
[group('check')]
release:
    CHAOS_RELEASE=full tools/test tests/live/test_release.py --timeout 1800

# A follower in another process reads 64 channels for a minute
[group('check')]
follow seconds="60":
    CHAOS_FOLLOW_SECONDS={{seconds}} tools/test tests/live/test_follow.py --timeout 600

# A recording of over 4 GiB, saved as RF64 and read back
[group('check')]
big:
    CHAOS_BIG_FRAMES=560000000 tools/test tests/export/test_wav.py -k overflows --timeout 600

# A hundred `kill -9` of chaosd during a capture; no committed frame may be lost
[group('check')]
kills n="100":
    CHAOS_KILLS={{n}} tools/test tests/faults/test_kill.py --timeout 1200

# Twenty power cuts of the disk during a capture (as root); each may cost the last second
[group('check')]
cuts n="20":
    CHAOS_CUTS={{n}} tools/test tests/faults/test_disks.py --timeout 1200

# Each call that the store makes to the disk fails, is its process's last, or is cut off from power
[group('check')]
faultpoints step="1":
    CHAOS_FAULT_STEP={{step}} tools/test tests/store/test_fault_points.py -n auto --timeout 2400

# A device that is unplugged and plugged in 200 times during a capture
[group('check')]
plug n="200":
    CHAOS_PLUG_CYCLES={{n}} tools/test tests/live/test_following.py -k cycles -s --timeout 1200

# The extensions under AddressSanitizer and UndefinedBehaviorSanitizer; `-m live` for the live tests
[group('check')]
sanitize *arguments:
    tools/sanitize {{arguments}}

# Callback, rotator and a follower race for as long as you like
[group('check')]
stress seconds="300":
    CHAOS_STRESS_SECONDS={{seconds}} tools/test tests/staging/test_stress.py --timeout 3600

# PipeWire killed and restarted 20 times during a capture
[group('check')]
restarts n="20":
    CHAOS_RESTARTS={{n}} tools/test tests/live/test_restart.py -k go_on -s --timeout 600

# The live tests on PipeWire 1.4, fetched beside the installed one
[group('check')]
live-1-4 *arguments:
    tools/pipewire-1.4 tools/test -m live {{arguments}}

# The unit tests on the Debians that chaosd is for: 12, 13 and the next one
[group('check')]
debians:
    for release in bookworm trixie forky; do tools/on $release ./tools/test -n auto -m "not live and not faults" || exit; done

# README typed line by line, and the first hours of four people, on Debian 12 and 13
[group('check')]
first-hours:
    for release in bookworm trixie; do tools/on $release ./tools/test tests/live/test_first_hours.py tests/live/test_readme_live.py || exit; done

# Set-up, demo and tests on another Debian (bookworm, trixie, trixie-backports, forky), as an ordinary user in a root of it
[group('check')]
on release *command:
    tools/on {{release}} {{command}}

# What CI runs
[group('check')]
ci:
    .ci/run

# --- prove ---

# Captures while things break, and accounts for every frame (--minutes N, --hours H)
[group('prove')]
truth *arguments:
    tools/truth {{arguments}}

# Twenty-four hours of audio, faster than real time, with faults
[group('prove')]
truth-day:
    tools/truth --hours 24

# Ten minutes of MIDI with faults (`just kills 50` for `kill -9` of MIDI and audio captures)
[group('prove')]
truth-events minutes="10":
    tools/truth --events --minutes {{minutes}}

# Every way in which a device can break the rules of clocks and buffers
[group('prove')]
truth-devices:
    tools/truth --devices

# The process callback under watch: no allocation, lock, fault or system call
[group('prove')]
rtcheck:
    tools/rtcheck

# CPU, speed, memory and latencies beside other recorders; writes docs/benchmarks.md
[group('prove')]
bench *arguments:
    tools/bench {{arguments}}

# Time and memory of each command; writes docs/commands.md
[group('prove')]
commands *arguments:
    tools/commands {{arguments}}

# A store of 10,000 takes beside an empty one: starts, lists, retention, memory; writes its part of docs/benchmarks.md
[group('prove')]
scale *arguments:
    tools/scale {{arguments}}

# Simulated recorders on an object store that fails (--recorders N --days D); writes its table into docs/fleet.md
[group('prove')]
fleet *arguments:
    tools/fleet {{arguments}}

# Small changes that break a promise, made to a copy: tests must fail for each (`just mutants NAME` for one)
[group('prove')]
mutants *arguments:
    tools/mutants {{arguments}}

# What clients, devices and other programs can do to a capture, many times over (--minutes N); writes docs/reliability.md
[group('prove')]
abuse *arguments:
    tools/abuse --out docs/reliability.md {{arguments}}

# --- see ---

# Ten seconds from a device to a verified recording and demo.wav
[group('see')]
demo *arguments:
    tools/demo {{arguments}}
