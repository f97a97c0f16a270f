"""Changes that break a promise, each of which tests must notice.

A mutant is one small change of the code that once went unnoticed, or is a sibling of one that did. Each is made in a
copy of this tree, whose extensions are built again where it is one of theirs; then the tests named beside it run
there. It is caught if they fail. One that survives, no longer applies or no longer builds makes the exit code 1, as do
tests that fail without any mutant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MUTANTS", "Mutant", "main", "mutated"]

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__"
)
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Mutant:
    """In `file` the text `old`, which stands there once, becomes `new`; then one of `tests` (node ids) fails."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutated(mutant: Mutant, source: str) -> str:
    """The file's text with the change. ValueError if what is to be changed does not stand there exactly once."""
    n_found = source.count(mutant.old)
    if n_found != 1:
        raise ValueError(f"{mutant.file} has the text to be changed {n_found} times")
    return source.replace(mutant.old, mutant.new)


RETENTION = "tests/store/test_retention.py::"
DURABLE = "tests/store/test_durable.py::"
CLOCK = "tests/staging/test_clock.py::"
TRUST = "tests/staging/test_trust.py::"
SLOTS = "tests/staging/test_slots.py::"

MUTANTS = (
    # -- files removed before the ledger is durable
    Mutant(
        "files-before-ledger-live",
        "chaos/store/writer.py",
        "        self.flush()\n        with self._storage(\"remove events from\"):\n"
        "            self._metadata.clear_events(mine)\n"
        "            self._metadata.clear_overview(self.n_frames, mine)\n        remove_chunks(self._objects, mine)\n",
        "        with self._storage(\"remove events from\"):\n"
        "            self._metadata.clear_events(mine)\n"
        "            self._metadata.clear_overview(self.n_frames, mine)\n"
        "        remove_chunks(self._objects, mine)\n        self.flush()\n",
        (RETENTION + "test_the_ledger_is_durable_before_a_file_goes",),
    ),
    Mutant(
        "files-before-ledger-finished",
        "chaos/store/retention.py",
        "        journal.flush()\n        info.refresh()\n        remove_derived(info, retired.chunks)\n"
        "        remove_chunks(store.objects, retired.chunks)\n",
        "        info.refresh()\n        remove_derived(info, retired.chunks)\n"
        "        remove_chunks(store.objects, retired.chunks)\n        journal.flush()\n",
        (RETENTION + "test_the_ledger_is_durable_before_a_file_goes",),
    ),
    # -- the newest chunk of a live take retired
    Mutant(
        "newest-chunk-planned",
        "chaos/store/retention.py",
        "stays = is_pinned or is_awaited or (info.is_live and sealed == info.chunks[-1])",
        "stays = is_pinned or is_awaited",
        (RETENTION + "test_the_newest_chunk_of_a_live_take_stays",),
    ),
    Mutant(
        "newest-chunk-retired",
        "chaos/store/writer.py",
        "is_mine and sealed.chunk < self._last.chunk and",
        "is_mine and sealed.chunk <= self._last.chunk and",
        (RETENTION + "test_the_newest_chunk_of_a_live_take_stays",),
    ),
    # -- `collect` forgetting pins
    Mutant(
        "collect-forgets-pins",
        "chaos/store/retention.py",
        "    return n_removed + store.objects.collect(pinned_hashes(store))\n",
        "    return n_removed + store.objects.collect()\n",
        (RETENTION + "test_collecting_objects_respects_pins",),
    ),
    Mutant(
        "retention-pass-forgets-pins",
        "chaos/store/retention.py",
        "            store.objects.collect(pinned_hashes(store))\n",
        "            store.objects.collect()\n",
        (RETENTION + "test_a_retention_pass_respects_pins_of_objects",),
    ),
    Mutant(
        "what-is-read-is-not-held",
        "chaos/store/pins.py",
        "    hashes = held(store)\n",
        "    hashes: set[str] = set()\n",
        ("tests/export/test_honest.py::test_what_is_being_saved_is_held",),
    ),
    # -- what is not synced
    Mutant(
        "no-fsync-in-write-new",
        "chaos/system/files.py",
        "        if durable:\n            os.fsync(fd)\n",
        "",
        (DURABLE + "test_a_new_file_is_synced", DURABLE + "test_a_sealed_chunk_is_durable_under_its_name"),
    ),
    Mutant(
        "no-fsync-of-the-folder-after-a-chunk",
        "chaos/store/chunks.py",
        "            left_over.unlink(missing_ok=True)\n        sync_folder(self.folder)\n",
        "            left_over.unlink(missing_ok=True)\n",
        (DURABLE + "test_a_sealed_chunk_is_durable_under_its_name",),
    ),
    Mutant(
        "no-fsync-of-the-objects-folder",
        "chaos/store/chunks.py",
        "        for folder in changed:\n            sync_folder(folder)\n",
        "",
        (DURABLE + "test_a_sealed_chunk_is_durable_under_its_name",),
    ),
    Mutant(
        "no-fsync-of-a-controllers-folder",
        "chaos/store/writer.py",
        "            hidden.unlink(missing_ok=True)\n            sync_folder(folder)\n",
        "            hidden.unlink(missing_ok=True)\n",
        (DURABLE + "test_a_controllers_chunk_is_durable_under_its_name",),
    ),
    Mutant(
        "no-fsync-of-a-new-takes-name",
        "chaos/store/halfmade.py",
        "        sync_folder(path.parent)\n",
        "",
        (DURABLE + "test_a_new_take_is_durable_under_its_name",),
    ),
    Mutant(
        "no-fsync-in-the-parts-commit",
        "chaos/store/part.py",
        "        os.fdatasync(self._fd)\n        self.n_frames = n_frames\n",
        "        self.n_frames = n_frames\n",
        (DURABLE + "test_a_checkpoint_is_durable_when_it_returns",),
    ),
    Mutant(
        "no-fsync-of-a-finished-part",
        "chaos/store/part.py",
        "        make_read_only(self._fd)\n        os.fsync(self._fd)\n",
        "        make_read_only(self._fd)\n",
        (DURABLE + "test_a_sealed_chunk_is_durable_under_its_name",),
    ),
    Mutant(
        "no-fsync-of-the-journal",
        "chaos/store/journal.py",
        "                self._write()\n                os.fdatasync(self._fd)\n",
        "                self._write()\n",
        (DURABLE.removesuffix("::"), RETENTION + "test_the_ledger_is_durable_before_a_file_goes"),
    ),
    Mutant(
        "no-fsync-of-the-folder-after-a-part",
        "chaos/store/chunks.py",
        "                sync_folder(self.folder)\n                part.is_named = True\n",
        "                part.is_named = True\n",
        (DURABLE + "test_a_checkpoint_is_durable_when_it_returns",),
    ),
    Mutant(
        "a-gap-is-durable-after-its-chunk",
        "chaos/store/writer.py",
        "                self._flush_journal()\n            self._chunks.put(",
        "                pass\n            self._chunks.put(",
        (DURABLE + "test_a_gap_is_durable_before_the_chunk_that_it_reaches_into",),
    ),
    # -- what can't be read counts for nothing
    Mutant(
        "an-unreadable-pin-pins-nothing",
        "chaos/store/pins.py",
        "            if not path.exists():  # unpinned meanwhile\n                continue\n"
        "            with storage_errors(\"read\", path):\n                raise\n",
        "            continue\n",
        (RETENTION + "test_where_a_pin_cant_be_read_nothing_goes",),
    ),
    Mutant(
        "an-unreadable-hold-holds-nothing",
        "chaos/store/holds.py",
        "            if error.errno not in _NO_HOLD:\n                with storage_errors",
        "            if False:\n                with storage_errors",
        (RETENTION + "test_where_a_pin_cant_be_read_nothing_goes",),
    ),
    Mutant(
        "a-failed-recovery-keeps-the-lock",
        "chaos/store/writer.py",
        "            writer = cls(store, folder, root, info.definition, journal)\n            writer.found = info\n",
        "            writer = cls(store, folder, root, info.definition, journal)\n            writer.found = info\n"
        "            opened.pop_all()\n",
        ("tests/store/test_recovery.py::test_a_recovery_that_fails_gives_up_the_lock",),
    ),
    # -- an open gap always `clock`
    Mutant(
        "open-gap-always-clock",
        "chaos/terms/ledger.py",
        "return cls(first_frame, head_frame - first_frame, cause, cause.confidence)",
        "return cls(first_frame, head_frame - first_frame, cause, Confidence.CLOCK)",
        ("tests/terms/test_ledger.py", "tests/store/test_open_gaps.py"),
    ),
    Mutant(
        "gap-at-the-end-always-clock",
        "chaos/staging/owner.py",
        "Gap(gap[0], gap[1], Cause(gap[2]), Confidence(gap[3]))",
        "Gap(gap[0], gap[1], Cause(gap[2]), Confidence.CLOCK)",
        ("tests/store/test_open_gaps.py", "tests/staging/test_staging.py"),
    ),
    # -- recovery at `seen_rate`
    Mutant(
        "recovery-at-seen-rate",
        "chaos/store/about.py",
        'sample_rate=staging.state("sample_rate"),',
        'sample_rate=staging.state("seen_rate"),',
        ("tests/store/test_recovery.py::test_the_rate_is_that_of_the_first_frame_whatever_the_graph_did_since",),
    ),
    # -- a slot given back before its entry is forgotten
    Mutant(
        "slot-free-before-its-entry-is-forgotten",
        "chaos/_slots.pyx",
        "        chaos_store(&w.table[slot].chunk, NONE)\n        chaos_fence()\n"
        "        with nogil:\n            chaos_zero(place, n)\n        self.free_slot(slot)\n",
        "        with nogil:\n            chaos_zero(place, n)\n        self.free_slot(slot)\n"
        "        chaos_store(&w.table[slot].chunk, NONE)\n        chaos_fence()\n",
        ("tests/staging/test_give_back.py",),
    ),
    Mutant(
        "slot-free-before-it-is-cleared",
        "chaos/_slots.pyx",
        "        with nogil:\n            chaos_zero(place, n)\n        self.free_slot(slot)\n",
        "        self.free_slot(slot)\n        with nogil:\n            chaos_zero(place, n)\n",
        ("tests/staging/test_give_back.py",),
    ),
    # -- torn frames booked as `no_data`
    Mutant(
        "torn-frames-are-no-data",
        "chaos/_cycle.pyx",
        "            skip(w, c, c.n_frames - done, CAUSE_MISSED, EXACT)\n",
        "            skip(w, c, c.n_frames - done, CAUSE_NO_DATA, EXACT)\n",
        (SLOTS + "test_torn_frames_were_missed",),
    ),
    # -- a later cycle taken for the next one after another quantum
    Mutant(
        "steadily-a-cycle-behind-is-in-step",
        "chaos/_cycle.pyx",
        "        w.trusted = is_steady(w, c, since_ns) and not is_behind(w, c)\n",
        "        w.trusted = is_steady(w, c, since_ns)\n",
        (TRUST + "test_a_call_that_is_steadily_a_cycle_behind_is_not_believed",),
    ),
    Mutant(
        "a-clock-that-left-out-a-cycle-is-never-believed-again",
        "chaos/_cycle.pyx",
        "    if c.now_ns - w.behind_ns < <uint64_t>BEHIND_MS * 1000000:\n",
        "    if True:\n",
        (TRUST + "test_a_clock_that_left_out_a_cycle_is_believed_after_a_second",),
    ),
    Mutant(
        "another-clocks-count-is-compared",
        "chaos/_cycle.pyx",
        "c.clock_id != w.step_clock or counted == 0",
        "counted == 0",
        (TRUST + "test_another_clock_and_another_length_have_no_count_to_compare",),
    ),
    Mutant(
        "any-cycle-follows-another-quantum",
        "chaos/_cycle.pyx",
        "        2 * frames_between(last_ns, c.monotonic_ns, c.rate) < w.other_within)\n",
        "        w.other_within > 0)\n",
        (CLOCK + "test_a_cycle_that_is_left_out_after_another_quantum_is_not_taken_for_it",),
    ),
    Mutant(
        "another-quantum-has-one-end",
        "chaos/_cycle.pyx",
        "    w.other_end = c.position + c.other_frames if c.other_frames != 0 else NONE\n",
        "    w.other_end = NONE\n",
        (CLOCK + "test_another_quantum_costs_nothing", CLOCK + "test_what_a_converter_cut_off_is_missed"),
    ),
    # -- a stand that nobody saw called exact
    Mutant(
        "a-stand-while-away-is-exact",
        "chaos/_cycle.pyx",
        "                     or 2 * <uint64_t>jump + c.n_frames < 2 * elapsed else EXACT)\n",
        "                     else EXACT)\n",
        (CLOCK + "test_a_stand_that_nobody_saw_is_not_called_exact",),
    ),
    Mutant(
        "a-stand-while-away-is-forgotten",
        "chaos/_cycle.pyx",
        "            unseen = not_in_position(w, c, <uint64_t>jump, elapsed)\n            if <uint64_t>jump",
        "            unseen = 0\n            if <uint64_t>jump",
        (CLOCK + "test_a_clock_that_stood_while_the_device_was_away_is_booked_by_time",),
    ),
    # -- a clock that stands still: a late cycle taken for the next one
    Mutant(
        "a-late-cycle-of-a-clock-that-stands-is-believed",
        "chaos/_cycle.pyx",
        "    w.off_pace = (off_ns if off_ns > 0 else -off_ns) * 2 >= ",
        "    w.off_pace = (off_ns if off_ns > 0 else -off_ns) * 2 >= 4 * ",
        (CLOCK + "test_cycles_of_a_clock_that_stands_keep_their_place_or_are_in_a_gap",),
    ),
    Mutant(
        "cycles-made-up-for-are-believed",
        "chaos/_cycle.pyx",
        "        w.off_pace = 2 * elapsed < c.n_frames or 2 * elapsed >= 3 * c.n_frames\n",
        "        w.off_pace = False\n",
        (CLOCK + "test_cycles_of_a_clock_that_stands_keep_their_place_or_are_in_a_gap",),
    ),
    # -- what passed before a cycle that waited
    Mutant(
        "a-cycle-that-waited-is-of-now",
        "chaos/_rt.pyx",
        "(now < ns + OFF_NS or (seen != 0 and seen < ns))",
        "now < ns + OFF_NS",
        (CLOCK + "test_a_cycles_time_is_its_drivers_where_that_can_be",),
    ),
    # -- WAV's limit without headroom
    Mutant(
        "wav-limit-without-headroom",
        "chaos/export/wav.py",
        "_RIFF_LIMIT_BYTES = (1 << 32) - (1 << 16)",
        "_RIFF_LIMIT_BYTES = (1 << 32) - 1",
        ("tests/export/test_wav.py::test_the_largest_wav_still_has_room_for_its_header",),
    ),
    Mutant(
        "wav-limit-forgets-what-stands-behind",
        "chaos/export/wav.py",
        "return n_frames * wav.frame_bytes + n_behind > _RIFF_LIMIT_BYTES",
        "return n_frames * wav.frame_bytes > _RIFF_LIMIT_BYTES",
        ("tests/export/test_wav.py::test_the_largest_wav_still_has_room_for_its_header",),
    ),
    # -- a client locked out after 1,024 answers
    Mutant(
        "client-locked-out-after-1024-answers",
        "chaos/doors/zmq/clients.py",
        "        self._clients[routing_id].n_pending -= 1\n",
        "",
        ("tests/doors/test_bus.py::test_a_client_may_ask_for_ever",),
    ),
    Mutant(
        "client-locked-out-after-1024-refusals",
        "chaos/doors/zmq/bus.py",
        "        except Exception as e:\n            self._clients.answered(client)\n",
        "        except Exception as e:\n",
        ("tests/doors/test_bus.py::test_a_client_may_ask_for_ever",),
    ),
    # -- promises of docs/reliability.md, whose tests had not been seen to fail
    Mutant(
        "pump-waits-too-long",
        "chaos/system/pump.py",
        "min(max(0.0, due - time.monotonic()), LONGEST_WAIT_S)",
        "max(0.0, due - time.monotonic())",
        ("tests/system/test_pump.py::test_a_wait_may_be_as_long_as_it_likes",),
    ),
    Mutant(
        "slices-import-from-anywhere",
        "chaos/export/jobs.py",
        '[sys.executable, "-I", "-m"',
        '[sys.executable, "-m"',
        ("tests/store/test_slices.py::test_the_process_that_writes_a_slice_takes_no_module_from_the_working_folder",),
    ),
    Mutant(
        "prefixes-pour-in",
        "chaos/doors/zmq/inflow.py",
        "n_cut += self._cut_off()",
        "pass",
        ("tests/doors/test_inflow.py::test_who_subscribes_faster_than_can_be_taken_in_is_cut_off",),
    ),
    Mutant(
        "half-messages-counted-one-by-one",
        "chaos/doors/zmq/arrivals.py",
        "found += self._many(n_bytes, set(found))",
        "pass",
        ("tests/doors/test_arrivals.py::test_many_who_send_a_little_each_are_told_together",),
    ),
    Mutant(
        "unread-events-unbounded",
        "chaos/doors/zmq/readers.py",
        "if n_bytes <= MAX_BYTES:",
        "if True:",
        ("tests/doors/test_bus.py::test_subscribers_that_do_not_read_are_bounded_together",),
    ),
    Mutant(
        "connections-beyond-the-cap-stay",
        "chaos/doors/zmq/bus.py",
        "return len(self._asking) + len(self._listening) < self._max_connections",
        "return True",
        ("tests/doors/test_few_descriptors.py::test_a_burst_of_connections_is_accepted_no_faster_than_it_is_counted",),
    ),
    Mutant(
        "slots-are-brought-in-with-the-gil",
        "chaos/_memory.pyx",
        "        with nogil:\n            while begin < end:\n",
        "        if True:\n            while begin < end:\n",
        ("tests/staging/test_memory.py::test_others_go_on_while_a_large_one_is_prepared",),
    ),
    Mutant(
        "shared-serials-are-forgotten",
        "chaos/engine/followers.py",
        "        self._remember_shared()\n        present",
        "        present",
        ("tests/engine/test_followers.py",),
    ),
)


class Copy:
    """A copy of this tree, with its built extensions, to break."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "copy"
        shutil.copytree(ROOT, self.root, symlinks=True, ignore=_LEFT_OUT)
        self._results = folder / "results.xml"

    def build(self) -> None:
        """Builds the extensions that were changed. RuntimeError with the compiler's words where that fails."""
        done = self._run("setup.py", "-q", "build_ext", "--inplace")
        if done.returncode:
            raise RuntimeError("it does not build: " + (done.stderr.strip().splitlines() or ["?"])[-1])

    def failures(self, tests: Sequence[str]) -> dict[str, str]:
        """Which of these tests fail, and why. RuntimeError where pytest did not come so far as to run them."""
        self._results.unlink(missing_ok=True)
        asked = ["-p", "no:cacheprovider", "-q", f"--junitxml={self._results}"]
        done = self._run("-m", "pytest", *asked, "-m", "not live and not faults", *tests)
        if done.returncode not in (0, 1):
            said = (done.stdout + done.stderr).strip().splitlines()
            raise RuntimeError(f"pytest ended with {done.returncode}: {said[-1] if said else ''}")
        failed: dict[str, str] = {}
        broke = []
        for case in ET.parse(self._results).getroot().iter("testcase"):
            test = (case.get("name") or "").partition("[")[0]
            name = f"{(case.get('classname') or '').replace('.', '/')}.py::{test}"
            if (failure := case.find("failure")) is not None:
                failed.setdefault(name, failure.get("message") or "")
            elif case.find("error") is not None:
                broke.append(name)
        if broke and not failed:
            raise RuntimeError(f"{broke[0]} broke down before it could check anything")
        return failed

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )

    def try_out(self, mutant: Mutant) -> dict[str, str]:
        """The tests that fail with the change, which is taken back. ValueError or RuntimeError as above."""
        path = self.root / mutant.file
        source = path.read_text()
        is_extension = path.suffix in (".pyx", ".pxd")
        kept = {each: each.with_suffix(each.suffix + ".kept") for each in _built(path)} if is_extension else {}
        for each, aside in kept.items():
            shutil.copy2(each, aside)
        stamp = path.stat()
        try:
            path.write_text(mutated(mutant, source))
            if is_extension:
                self.build()
            return self.failures(mutant.tests)
        finally:
            path.write_text(source)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            for each, aside in kept.items():
                aside.replace(each)


def _built(path: Path) -> Iterable[Path]:
    """What the build makes of an extension: also its C file, else the next build would take that for the newest."""
    return [*path.parent.glob(f"{path.stem}.*.so"), path.with_suffix(".c")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants", description="Breaks the code, and sees that tests fail.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="names and files, and nothing done")
    given = parser.parse_args()
    unknown = set(given.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}; --list shows all")
    chosen = [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]
    if given.list:
        for mutant in chosen:
            print(f"{mutant.name:42} {mutant.file}")
        return
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        sys.exit(_tried(Copy(Path(folder)), chosen))


def _tried(copy: Copy, chosen: Sequence[Mutant]) -> int:
    began = time.monotonic()
    copy.build()
    healthy = copy.failures(sorted({test for mutant in chosen for test in mutant.tests}))
    if healthy:
        for test, why in healthy.items():
            print(f"mutants: fails without any mutant: {test}: {why}", file=sys.stderr)
        return 1
    wrong = 0
    for mutant in chosen:
        try:
            failed = copy.try_out(mutant)
            said = f"caught by {', '.join(failed)}" if failed else "SURVIVED: no test noticed it"
        except (ValueError, RuntimeError, subprocess.TimeoutExpired) as error:
            failed, said = {}, f"WRONG: {error}"
        wrong += not failed
        print(f"{mutant.name:42} {said}", flush=True)
    took_s = time.monotonic() - began
    print(f"mutants: {len(chosen) - wrong} of {len(chosen)} were caught, in {took_s:.0f} s", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
