"""What a verification has found: the report on one take, and the one on a stream, made of those on its takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from blake3 import blake3

from chaos.store.hashes import stream_hash
from chaos.store.signature import SignatureVerdict
from chaos.terms.ledger import Cause
from chaos.terms.moments import utc_if_any

if TYPE_CHECKING:
    from chaos.store.takes import Take

__all__ = ["Absent", "Defect", "Proof", "TakeVerdict", "VerifyReport", "joined", "proof_of"]

Proof = Literal["nothing", "hashes", "signature", "unchecked_signature"]


class Defect(msgspec.Struct, frozen=True):
    """Something that is not as it must be.

    `reason`: hash_mismatch, wrong_size, missing, unreadable, misplaced, not_in_journal (these name a chunk),
    unaccounted_frames, overlap (these name frames), journal_damaged, metadata_mismatch, signature_bad (these name a
    file in `found`). `expected` and `found` say more in the reason's own terms. Of a stream of several takes `take` is
    the URI of the one that is meant.
    """

    reason: str
    chunk: int | None = None
    first_frame: int | None = None
    n_frames: int | None = None
    expected: str | None = None
    found: str | None = None
    take: str | None = None


class TakeVerdict(msgspec.Struct, frozen=True):
    """One take of a stream: where it begins on the stream's timeline, and what became of it. Where takes differ in
    format, the timeline has each one's frames at its own rate."""

    uri: str
    recording: str
    first_frame: int
    n_frames: int
    state: str
    clean: bool | None
    ok: bool
    root_hash: str
    recording_hash: str
    proof: Proof
    all_checked: bool
    recording_hash_v3: str = ""
    sample_rate: int = 0
    channels: int = 0


class Absent(msgspec.Struct, frozen=True):
    """A take that went on from one, `before`, that is not in the store (both URIs). No defect: it may have been removed
    on purpose, which nothing tells."""

    take: str
    before: str


class VerifyReport(msgspec.Struct, frozen=True):
    """What was verified, to be filed as it is. `root_hash` is the BLAKE3-256 over the chunks' hashes (32 bytes
    each) in order; `chunks` lists them. `recording_hash` (version 2) covers the length, the ledger, the start, the
    device and the clock, too, and `recording_hash_v3` also the marks and all else that a recording tells (see
    `chaos.store.hashes`): where two are equal, so are the recordings.

    `gaps` are as on the wire, each with the moment of its first frame (`utc`); `lost_frames` leaves out what retention
    removed. Of a stream of several takes `takes` are these, and all frames count on its timeline; `recording` is the
    newest take's, and the recording hashes are over theirs.

    `ok` says that what was checked has no defect, `all_checked` whether that was all of it: not while it is recorded or
    waits for recovery, when there are frames that are not sealed yet, and not where `sample` has the numbers of the
    chunks that were hashed: of the others only the size was looked at (None: all were hashed). Of a stream of several
    takes these are the numbers in each.

    `proof` says what is proved: "nothing" (it is not `ok`, or a sample alone was hashed), "hashes" (all is as the
    recording itself tells: no accident has changed it, but whoever can write to it may have made it anew), "signature"
    (besides, the holder of a key has signed just this, all takes with the same key; whose key it is stands in no
    recording), "unchecked_signature" (as "hashes", and signatures are there that could not be checked). `signatures`
    has each. `absent` are the takes before these that should be in the store and are not.
    """

    ok: bool
    uri: str
    recording: str
    state: str
    clean: bool | None
    n_chunks: int
    n_frames: int
    sample_rate: int
    channels: int
    bad: list[Defect]
    gaps: list[dict[str, Any]]
    lost_frames: int
    root_hash: str
    recording_hash: str
    chunks: list[dict[str, Any]]
    device: str | None
    sample_format: str
    started_utc: str
    verified_utc: str
    software: str
    all_checked: bool
    takes: list[TakeVerdict] = []
    proof: Proof = "nothing"
    signatures: list[SignatureVerdict] = []
    recording_hash_v3: str = ""
    absent: list[Absent] = []
    sample: list[int] | None = None


def joined(uri: str, reports: Sequence[tuple[Take, VerifyReport]]) -> VerifyReport:
    """The report on a stream, of those on its takes."""
    bad, gaps, chunks, verdicts = [], [], [], []
    ended_ns = 0
    for take, report in reports:
        own, origin = report.uri, take.origin
        if (between := take.gap()) is not None:
            gaps.append({**between.to_wire(), "utc": utc_if_any(ended_ns)})
        ended_ns = take.digest.ended_wall_ns
        gaps += [{**gap, "first_frame": gap["first_frame"] + origin} for gap in report.gaps]
        chunks += [{**chunk, "first_frame": chunk["first_frame"] + origin, "take": own} for chunk in report.chunks]
        for each in report.bad:
            first = None if each.first_frame is None else each.first_frame + origin
            bad.append(msgspec.structs.replace(each, first_frame=first, take=own))
        verdicts.append(
            TakeVerdict(
                own, report.recording, origin, report.n_frames, report.state, report.clean,
                report.ok, report.root_hash, report.recording_hash, report.proof, report.all_checked,
                report.recording_hash_v3, report.sample_rate, report.channels,
            )
        )  # fmt: skip
    (last, newest), (_, oldest) = reports[-1], reports[0]
    signatures = [
        msgspec.structs.replace(each, take=report.uri) for _, report in reports for each in report.signatures
    ]
    cleans = [report.clean for _, report in reports]
    sampled = [report.sample for _, report in reports if report.sample is not None]
    return msgspec.structs.replace(
        newest,
        ok=not bad,
        uri=uri,
        clean=None if None in cleans else all(cleans),
        n_chunks=len(chunks),
        n_frames=last.origin + newest.n_frames,
        bad=bad,
        gaps=gaps,
        lost_frames=sum(gap["n_frames"] or 0 for gap in gaps if gap["cause"] != Cause.RETIRED.label),
        root_hash=blake3(b"".join(bytes.fromhex(chunk["hash"]) for chunk in chunks)).hexdigest(),
        recording_hash=stream_hash(uri, [(each.uri, each.first_frame, each.recording_hash) for each in verdicts]),
        recording_hash_v3=stream_hash(
            uri, [(each.uri, each.first_frame, each.recording_hash_v3) for each in verdicts], version=2
        ),
        chunks=chunks,
        started_utc=oldest.started_utc,
        all_checked=all(each.all_checked for each in verdicts),
        takes=verdicts,
        signatures=signatures,
        proof="nothing" if sampled else proof_of(not bad, [report.signatures for _, report in reports]),
        sample=sorted(number for each in sampled for number in each) if sampled else None,
    )


def proof_of(ok: bool, signatures: Sequence[Sequence[SignatureVerdict]]) -> Proof:
    """What is proved of takes that bear these signatures each."""
    if not ok:
        return "nothing"
    good = [{each.public_key for each in of_take if each.state == "good"} for of_take in signatures]
    if set.intersection(*good):
        return "signature"
    states = {each.state for of_take in signatures for each in of_take}
    return "unchecked_signature" if "unchecked" in states else "hashes"
