"""The catalogue held against the journals."""

from __future__ import annotations

from pathlib import Path

from chaos.store.catalog import Catalog
from chaos.store.digest import Digest
from chaos.store.info import RecordingInfo, load
from chaos.store.retired import gone_chunks
from chaos.terms.errors import ChaosError
from chaos.terms.ledger import lost_frames

__all__ = ["agree", "held", "told", "truth"]


def held(info: RecordingInfo) -> set[int]:
    return {sealed.chunk for sealed in info.chunks} - {sealed.chunk for sealed in gone_chunks(info)}


def told(digest: Digest) -> dict[str, object]:
    """What a digest says, in terms that a RecordingInfo has too."""
    return {
        "n_frames": digest.n_frames,
        "n_chunks": digest.n_chunks,
        "held": {first + at for first, n in digest.held for at in range(n)},
        "lost": digest.lost_frames,
        "retired": sum(end - first for first, end in digest.retired),
        "gaps": {cause: n_frames for cause, (_, n_frames) in digest.gaps.items() if n_frames},
        "finish": digest.finish,
        "bad": digest.n_bad_lines,
    }


def truth(info: RecordingInfo) -> dict[str, object]:
    gaps: dict[str, int] = {}
    for gap in info.gaps:
        gaps[gap.cause.label] = gaps.get(gap.cause.label, 0) + gap.n_frames
    return {
        "n_frames": info.n_frames,
        "n_chunks": len(info.chunks),
        "held": held(info),
        "lost": lost_frames(info.gaps),
        "retired": gaps.get("retired", 0),
        "gaps": {cause: n_frames for cause, n_frames in gaps.items() if n_frames},
        "finish": info.finish,
        "bad": len(info.bad_lines),
    }


def agree(catalog: Catalog, store: Path) -> None:
    """Every recording, and no other, is in the catalogue as its own journal has it."""
    entries = {entry.path: entry for entry in catalog.entries()}
    paths = set((store / "recordings").glob("[!.]*/[!.]*.zarr"))
    assert entries.keys() == paths
    n_chunks = n_bytes = 0
    for path, entry in entries.items():
        try:
            info = load(path)
        except ChaosError:
            assert (entry.state, entry.digest) == ("damaged", None)
            continue
        assert entry.digest is not None
        assert entry.state == info.state
        assert told(entry.digest) == truth(info)
        n_chunks += entry.digest.n_held
        n_bytes += entry.digest.n_bytes
    assert catalog.totals() == (len(paths), n_chunks, n_bytes)
