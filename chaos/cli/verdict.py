"""How chaosctl tells what was found of a recording: the verdict, its gaps, its defects, and what is proved by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chaos.cli.show import duration, local_time, lost
from chaos.terms.counting import counted

__all__ = ["is_broken_off", "proof_lines", "told_once", "verify_lines"]

Wire = Mapping[str, Any]

_MOST_GAPS = 20
_MOST_NAMED = 10


def verify_lines(report: Wire, missing_frames: int) -> list[str]:
    """A VerifyReport: the verdict, the root hash, and a line for each defect. It is "ok" where all was checked."""
    counts = (
        f"{counted(report['n_frames'], 'frame')} in {counted(report['n_chunks'], 'chunk')},"
        f" {counted(len(report['gaps']), 'gap')}, {counted(missing_frames, 'frame')} missing"
        f"{lost(missing_frames, report.get('sample_rate'))}"
    )
    states = _states(report)
    fine = "ok" if report.get("sample") is None else "no defect in a sample"
    lines = [f"{fine if report['ok'] else 'BAD'}: {counts}"]
    partly = None
    if "interrupted" in states:
        partly = "interrupted, not recovered yet: run chaosctl recover"
    elif "recording" in states:
        partly = f"still recording: checked up to frame {report['n_frames']}, what is sealed"
    if partly is not None:
        lines = [partly, f"  no defect in what is sealed: {counts}"] if report["ok"] else [*lines, f"  {partly}"]
    lines += _sample_lines(report)
    if "root_hash" in report:
        lines.append(f"  root hash      {report['root_hash']}")
    if report.get("recording_hash_v3"):  # the one that is signed
        lines.append(f"  recording hash {report['recording_hash_v3']}")
    if "recording_hash" in report:
        lines.append(f"  without marks  {report['recording_hash']}")
    lines += [
        f"  {_take_verdict(take)}: {take['uri']}, {counted(take['n_frames'], 'frame')} from {take['first_frame']} on"
        for take in report.get("takes", ())
    ]
    lines += [
        f"  {each['take']} goes on from {each['before']}, which is not in this store"
        for each in report.get("absent", ())
    ]
    return [*lines, *_gap_lines(report), *_defect_lines(report["bad"])]


def _sample_lines(report: Wire) -> list[str]:
    """What was and what wasn't checked where a sample was hashed."""
    sample = report.get("sample")
    if sample is None:
        return []
    n_others = report["n_chunks"] - len(sample)
    named = ", ".join(map(str, sample[:_MOST_NAMED])) + (", ..." if len(sample) > _MOST_NAMED else "")
    named = "" if report.get("takes") else f" ({named})"
    return [
        f"  checked: {counted(len(sample), 'chunk')} by hash{named}, the journal, the tables and all files' sizes",
        f"  NOT checked: what is in the other {counted(n_others, 'chunk')}",
    ]


def _states(report: Wire) -> set[str | None]:
    return {take["state"] for take in report.get("takes", ())} | {report.get("state")}


def is_broken_off(report: Wire) -> bool:
    """Whether a VerifyReport has a take that waits for recovery."""
    return "interrupted" in _states(report)


def _defect_lines(bad: Sequence[Wire]) -> list[str]:
    return told_once((defect, f"  {_defect(defect)}") for defect in bad)


def told_once(defects: Iterable[tuple[Wire, str]]) -> list[str]:
    """A line for each; chunks of one content are one file, and what happened to that is told once."""
    lines: dict[Any, list[str]] = {}
    for number, (defect, line) in enumerate(defects):
        hashes = (defect.get("expected"), defect.get("found"))
        is_content = defect["reason"] == "hash_mismatch" and all(hashes)
        lines.setdefault(hashes if is_content else number, []).append(line)
    shared = "    and so in {}: their content was the same, and so they share that file (--json has all)"
    return [line for found in lines.values()
            for line in (found[0], *([shared.format(counted(len(found) - 1, "more chunk"))] if len(found) > 1 else []))]


def _gap_lines(report: Wire) -> list[str]:
    """The first gaps by frame: where and when they begin, how long they are, and why."""
    gaps, takes = sorted(report["gaps"], key=lambda gap: gap["first_frame"]), report.get("takes", ())
    lines = []
    for gap in gaps[:_MOST_GAPS]:
        before = [take for take in takes if take["first_frame"] <= gap["first_frame"]]
        rate = before[-1]["sample_rate"] if before else report.get("sample_rate")
        n_frames, sure = gap["n_frames"] or 0, "" if gap["confidence"] == "exact" else f" ({gap['confidence']})"
        when = f", {local_time(gap['utc'])}" if gap.get("utc") else ""
        lines.append(
            f"  gap at {duration(gap['first_frame'], rate)} (frame {gap['first_frame']}){when}:"
            f" {counted(n_frames, 'frame')}{lost(n_frames, rate)} {gap['cause']}{sure}"
        )
    n_more = len(gaps) - _MOST_GAPS
    return [*lines, *([f"  and {counted(n_more, 'more gap')} (--json has all)"] if n_more > 0 else [])]


def _take_verdict(take: Wire) -> str:
    if not take["ok"]:
        return "BAD"
    return {"interrupted": "interrupted", "recording": "still recording"}.get(take["state"], "ok")


def proof_lines(report: Wire, names: Mapping[str, str]) -> list[str]:
    """What a VerifyReport proves, and by whom it was signed. `names` are those of the keys that are trusted."""
    lines = []
    if report.get("proof") in ("hashes", "unchecked_signature"):
        what = "nothing" if report.get("all_checked", True) else "nothing that is sealed"
        unsigned = f"  proved by hashes alone: {what} changed by accident; no checked signature says whose it is"
        lines.append(_partly_signed(report) or unsigned)
    for each in report.get("signatures", ()):
        key, place = each["public_key"] or "?", f" of {each['take']}" if each["take"] else ""
        name = f"{names[key]} (key {key})" if key in names else f"a key that you don't know: {key}"
        if each["state"] == "good":
            lines.append(f"  signed{place} by {name}, at {each['signed_utc']} by the signer's clock")
            lines += _not_signed(each)
        else:
            state = "SIGNATURE BAD" if each["state"] == "bad" else "signature NOT CHECKED"
            lines.append(f"  {state}{place}, key {key}: {each['reason']}")
    return lines


def _not_signed(signature: Wire) -> list[str]:
    """What a good signature says nothing about."""
    n_marks = signature.get("unsigned_marks", 0)
    if signature.get("hash_version", 2) == 2:
        return ["    this says nothing about marks: it is of an older kind (sign again to have them in it)"]
    marks = "1 mark was" if n_marks == 1 else f"{n_marks} marks were"
    return [f"    {marks} set later and {'is' if n_marks == 1 else 'are'} not covered"] if n_marks else []


def _partly_signed(report: Wire) -> str | None:
    """Of a stream some of whose takes bear a good signature."""
    takes = [take["uri"] for take in report.get("takes", ())]
    signed = {each["take"] for each in report.get("signatures", ()) if each["state"] == "good"}
    unsigned = [uri for uri in takes if uri not in signed]
    if not signed or not takes:
        return None
    if not unsigned:
        return f"  all {len(takes)} takes are signed, but no single key has signed them all"
    return f"  {len(takes) - len(unsigned)} of {len(takes)} takes are signed; unsigned: {', '.join(unsigned)}"


def _defect(defect: Wire) -> str:
    place = "" if defect.get("chunk") is None else f" in chunk {defect['chunk']}"
    if defect.get("take"):
        place += f" of {defect['take']}"
    if defect.get("first_frame") is not None:
        place += f", frames {defect['first_frame']} to {defect['first_frame'] + (defect['n_frames'] or 0)}"
    found = "".join(f"; {what} {defect[what]}" for what in ("expected", "found") if defect.get(what))
    return f"{defect['reason']}{place}{found}"
