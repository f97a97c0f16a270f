"""Each op has its method in `chaos.ops` and in `chaos.aio`, whose answers are what the store and PROTOCOL.md have."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from chaos import aio, ops
from chaos.export.report import Damage, SaveReport
from chaos.export.smf import Loss
from chaos.protocol import answers, recorded
from chaos.protocol.requests import REQUESTS
from chaos.store.kept import Kept
from chaos.store.retention import Retired
from chaos.store.signature import SignatureVerdict
from chaos.store.slices import ChunkSpan
from chaos.store.summary import RecordingSummary
from chaos.store.verdict import Absent, Defect, TakeVerdict, VerifyReport
from chaos.terms.ledger import Gap

OF_ALL = {"call", "ask"}


def methods(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")} - OF_ALL


def test_every_op_has_its_method_and_no_method_is_without_its_op() -> None:
    assert methods(ops.Ops) == methods(aio.Ops) == set(REQUESTS)


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_a_method_takes_what_the_request_has(op: str) -> None:
    fields = [field for field in msgspec.structs.fields(REQUESTS[op]) if field.name != "id"]
    signature = inspect.signature(getattr(ops.Ops, op))
    taken = list(signature.parameters.values())[1:]
    assert [each.name for each in taken] == [field.name for field in fields]
    for field, each in zip(fields, taken, strict=True):
        if field.required:
            assert (each.kind, each.default) == (each.POSITIONAL_OR_KEYWORD, each.empty)
        else:
            assert (each.kind, each.default) == (each.KEYWORD_ONLY, field.default)
    assert inspect.signature(getattr(aio.Ops, op)) == signature


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_what_is_given_reaches_the_request(op: str) -> None:
    """Every argument, under its own name: one that is forgotten or goes into another's place is seen."""
    asked: list[tuple[str, dict[str, object]]] = []

    class Recorder(ops.Ops):
        def ask(self, request: msgspec.Struct, kind: type) -> object:  # type: ignore[override]
            given = {name: getattr(request, name) for name in request.__struct_fields__ if name != "id"}
            asked.append((str(request.__struct_config__.tag), given))
            return type("Anything", (), {"__getattr__": lambda self, name: None})()

    values = {
        "uri": "stream://desk/1",
        "label": "chorus",
        "session": "jam",
        "streams": [],
        "new_chunk_path": "/a/b",
        "keep": "7d",
        "output": "materialize",
        "from_": "start",
        "to": "head",
        "path": "/c/d",
        "roll": "1h",
        "on_seal": "/bin/true",
        "on_roll": "/bin/true {path}",
        "format": msgspec.convert({"type": "audio"}, answers.Format),
    }
    names = [field.name for field in msgspec.structs.fields(REQUESTS[op]) if field.name != "id"]
    left_out = {"chunk_path", "chunk_size_bytes", "stop_after_s"}  # not beside others that are given
    given = {name: values.get(name, number + 1) for number, name in enumerate(names) if name not in left_out}
    given |= {"roll_on_format_change": False, "standby_s": None, "trigger": None} if op == "stream_start" else {}
    getattr(Recorder(), op)(**given)
    [(tag, fields)] = asked
    assert tag == op
    assert {name: fields[name] for name in given} == given


@pytest.mark.parametrize(
    ("wire", "made"),
    [
        (recorded.RecordingLine, RecordingSummary),
        (recorded.ChunkPart, ChunkSpan),
        (recorded.SavedDamage, Damage),
        (recorded.MidiLoss, Loss),
        (recorded.DefectFound, Defect),
        (recorded.TakeVerified, TakeVerdict),
        (recorded.SignatureTold, SignatureVerdict),
        (recorded.AbsentTold, Absent),
        (recorded.Verified, VerifyReport),
        (recorded.RetiredWhat, Retired),
        (recorded.KeptTold, Kept),
    ],
)
def test_a_client_reads_what_the_daemon_makes(wire: type[msgspec.Struct], made: type[msgspec.Struct]) -> None:
    assert wire.__struct_fields__ == made.__struct_fields__


def test_a_client_reads_a_slice_and_its_gaps() -> None:
    assert set(recorded.Sliced.__struct_fields__) == {"chunks", *SaveReport.__struct_fields__}
    assert recorded.GapTold.__struct_fields__ == (*Gap.__struct_fields__, "utc")


def test_an_answer_that_is_none_is_told() -> None:
    with pytest.raises(Exception, match="what chaosd answered to ping is not understood") as caught:
        ops.as_result("ping", {"name": 1}, answers.Pong)
    assert getattr(caught.value, "code", None) == "bad_answer"
