"""Signatures: what they cover, what is said of them, and that nothing is called signed which was not checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from nacl.signing import VerifyKey
from recorded import Rotator, checked, definition
from rolled import URI, three_takes

from chaos.cli.main import main
from chaos.cli.verdict import proof_lines
from chaos.store.info import load
from chaos.store.marking import mark_ended
from chaos.store.retention import retire
from chaos.store.signature import SIGNATURES_NAME, Signature, sign
from chaos.store.store import Store
from chaos.store.verify import VerifyReport, verify, verify_uri
from chaos.store.writer import RecordingWriter
from chaos.system.signing import SigningKeys, SigningPair
from chaos.terms.errors import InvalidRequest, StorageFailed, StreamExists
from chaos.terms.marks import Mark
from chaos.terms.units import Keep

NOW_NS = 1_769_900_000_000_000_000


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    keys = SigningKeys(tmp_path / "keys")
    keys.make()
    return keys


@pytest.fixture
def other(tmp_path: Path) -> SigningPair:
    return SigningKeys(tmp_path / "others-keys").make()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path / "store"), definition()))
    rotator.anchor()
    rotator.write(40)
    rotator.gap(5)
    rotator.write(20)
    rotator.stop()
    return rotator.writer.path


def signed(path: Path, pair: SigningPair) -> Signature:
    return sign(path, pair, verify(path).recording_hash_v3, NOW_NS)


def states(report: VerifyReport) -> list[str]:
    return [each.state for each in report.signatures]


def test_a_signature_is_good_and_says_whose_key_it_is(path: Path, keys: SigningKeys) -> None:
    assert (verify(path).proof, verify(path).signatures) == ("hashes", [])
    made = signed(path, keys.own())
    report = verify(path)
    assert (report.ok, report.proof, states(report)) == (True, "signature", ["good"])
    (verdict,) = report.signatures
    assert (verdict.public_key, verdict.signed_utc) == (keys.own().public, "2026-01-31T22:53:20.000000000Z")
    text = (
        f'["chaosd signature",2]\n["recording_hash",3,"{report.recording_hash_v3}"]\n["marks",0]\n["signed",{NOW_NS}]\n'
    )  # PROTOCOL.md's
    VerifyKey(bytes.fromhex(made.public_key)).verify(text.encode(), bytes.fromhex(made.signature))


def test_marks_are_signed_and_later_ones_are_told(path: Path, keys: SigningKeys) -> None:
    for frame in (5, 9):
        mark_ended(path, Mark(frame, "verse"))
    made = signed(path, keys.own())
    assert made.n_marks == 2
    assert [each.unsigned_marks for each in verify(path).signatures] == [0]
    mark_ended(path, Mark(7, "later"))
    report = verify(path)
    assert [(each.state, each.hash_version, each.unsigned_marks) for each in report.signatures] == [("good", 3, 1)]
    text = "\n".join(proof_lines(msgspec.to_builtins(report), {}))
    assert "1 mark was set later and is not covered" in text


@pytest.mark.parametrize("change", ["label", "frame", "gone", "order"])
def test_a_signed_mark_that_is_changed_makes_it_bad(path: Path, keys: SigningKeys, change: str) -> None:
    for mark in (Mark(5, "verse"), Mark(9, "chorus")):
        mark_ended(path, mark)
    signed(path, keys.own())
    journal = path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    if change == "gone":
        lines.pop()
    elif change == "order":
        lines[-2:] = reversed(lines[-2:])
    else:
        body = json.loads(lines[-1])
        body |= {"label": "bridge"} if change == "label" else {"frame": 10}
        body.pop("check")
        lines[-1] = checked(json.dumps(body, separators=(",", ":")).encode())
    journal.write_bytes(b"".join(lines))
    report = verify(path)
    assert (report.ok, report.proof, states(report)) == (False, "nothing", ["bad"])


def test_a_signature_of_the_first_kind_stays_good_and_says_what_it_leaves_out(path: Path, keys: SigningKeys) -> None:
    pair = keys.own()
    first = Signature("ed25519", pair.public, NOW_NS, verify(path).recording_hash, "")
    assert first.message == (
        f'["chaosd signature",1]\n["recording_hash",2,"{first.recording_hash}"]\n["signed",{NOW_NS}]\n'.encode()
    )
    whole = msgspec.structs.replace(first, signature=pair.sign(first.message))
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([whole]))
    mark_ended(path, Mark(5, "verse"))
    report = verify(path)
    assert [(each.state, each.hash_version, each.unsigned_marks) for each in report.signatures] == [("good", 2, 1)]
    assert "says nothing about marks" in "\n".join(proof_lines(msgspec.to_builtins(report), {}))
    forged = msgspec.structs.replace(whole, scheme="ed25519-v3")
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([forged]))
    assert states(verify(path)) == ["bad"]


def test_several_sign_and_each_once(path: Path, keys: SigningKeys, other: SigningPair) -> None:
    for pair in (keys.own(), other, keys.own()):
        signed(path, pair)
    assert sorted(str(each.public_key) for each in verify(path).signatures) == sorted([keys.own().public, other.public])


def test_retention_leaves_a_signature_good(path: Path, keys: SigningKeys) -> None:
    signed(path, keys.own())
    retire(Store(path.parents[2]), Keep(None, 0))
    report = verify(path)
    assert (report.ok, report.proof, sum(gap["cause"] == "retired" for gap in report.gaps) > 0) == (
        True, "signature", True
    )  # fmt: skip


@pytest.mark.parametrize("field", ["public_key", "signed_wall_ns", "recording_hash", "signature"])
def test_any_change_makes_it_bad(path: Path, keys: SigningKeys, other: SigningPair, field: str) -> None:
    made = signed(path, keys.own())
    spoilt = {
        "public_key": other.public,
        "signed_wall_ns": NOW_NS + 1,
        "recording_hash": "0" * 64,
        "signature": "0" + made.signature[1:] if made.signature[0] != "0" else "1" + made.signature[1:],
    }[field]
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([{**msgspec.to_builtins(made), field: spoilt}]))
    report = verify(path)
    assert (report.ok, report.proof, states(report)) == (False, "nothing", ["bad"])
    assert [bad.reason for bad in report.bad] == ["signature_bad"]
    assert made.public_key in str(report.bad[0].found) or field == "public_key"


def test_a_recording_that_tells_something_else_is_not_what_was_signed(path: Path, keys: SigningKeys) -> None:
    """Each line of its journal, taken out; metadata made anew after it, as somebody would who wants to deceive."""
    signed(path, keys.own())
    journal = path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    told = [json.loads(line)["type"] for line in lines]
    for number, kind in enumerate(told):
        if kind in ("chunk", "gap", "anchor", "finish"):
            journal.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
            assert states(verify(path)) == ["bad"], kind
    assert {"chunk", "gap", "anchor", "finish"} <= set(told)
    body = json.loads(lines[-1])
    body.pop("check")
    body["n_frames"] += 1
    journal.write_bytes(b"".join(lines[:-1]) + checked(json.dumps(body, separators=(",", ":")).encode()))
    assert states(verify(path)) == ["bad"]
    journal.write_bytes(b"".join(lines))
    assert states(verify(path)) == ["good"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'[{"scheme":"ed25519"}]', b"\xff"])
def test_a_file_that_makes_no_sense_is_told_and_not_overwritten(
    path: Path, keys: SigningKeys, content: bytes
) -> None:
    (path / SIGNATURES_NAME).write_bytes(content)
    report = verify(path)
    assert (report.ok, states(report)) == (False, ["bad"])
    with pytest.raises(StorageFailed, match="damaged"):
        signed(path, keys.own())
    assert (path / SIGNATURES_NAME).read_bytes() == content


@pytest.mark.parametrize(("public", "signature"), [("", ""), ("zz", "00"), ("00" * 32, "00" * 64), ("00" * 31, "0")])
def test_what_is_no_key_or_signature_is_bad(path: Path, public: str, signature: str) -> None:
    whole = Signature("ed25519-v3", public, NOW_NS, verify(path).recording_hash_v3, signature)
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([whole]))
    assert (states(verify(path)), verify(path).ok) == (["bad"], False)


def test_what_can_not_be_checked_is_not_called_signed(
    path: Path, keys: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = signed(path, keys.own())
    later = msgspec.structs.replace(made, scheme="ed448")
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([later]))
    assert (states(verify(path)), verify(path).proof) == (["unchecked"], "unchecked_signature")
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([made]))
    monkeypatch.setitem(sys.modules, "nacl", None)
    report = verify(path)
    assert (report.ok, report.proof, states(report)) == (True, "unchecked_signature", ["unchecked"])
    assert "pip install" in str(report.signatures[0].reason)
    with pytest.raises(InvalidRequest, match="PyNaCl"):
        signed(path, keys.own())


def test_only_what_has_ended_and_is_as_verified_is_signed(tmp_path: Path, keys: SigningKeys, path: Path) -> None:
    with pytest.raises(InvalidRequest, match="changed"):
        sign(path, keys.own(), "0" * 64, NOW_NS)
    running = Rotator(RecordingWriter.create(Store(tmp_path / "store"), definition("stream://mic/on")))
    running.write(40)
    with pytest.raises(StreamExists):
        signed(running.writer.path, keys.own())
    running.writer.close()
    with pytest.raises(InvalidRequest, match="recover"):
        signed(running.writer.path, keys.own())


def test_a_stream_is_signed_where_one_key_has_signed_all_takes(
    tmp_path: Path, keys: SigningKeys, other: SigningPair
) -> None:
    store = Store(tmp_path / "store")
    takes = three_takes(store.root)
    takes[2].stop()
    paths = [take.writer.path for take in takes]
    for path, pair in zip(paths, (keys.own(), keys.own(), other), strict=True):
        signed(path, pair)
    assert (verify_uri(store, URI).proof, verify(paths[2]).proof) == ("hashes", "signature")
    signed(paths[2], keys.own())
    report = verify_uri(store, URI)
    assert (report.proof, len(report.signatures)) == ("signature", 4)
    assert [take.proof for take in report.takes] == ["signature"] * 3
    assert [each.take for each in report.signatures] == [URI, f"{URI}.0002", f"{URI}.0003", f"{URI}.0003"]


# ---- keys

@pytest.mark.parametrize(
    ("name", "mode"), [("signing.key", 0o640), ("signing.key", 0o604), ("signers", 0o777), ("signers/desk.key", 0o622)]
)
def test_key_files_with_lax_modes_are_not_used(keys: SigningKeys, other: SigningPair, name: str, mode: int) -> None:
    keys.add("desk", other.public)
    both = {other.public: "desk", keys.own().public: "this user"}
    assert keys.names() == (both, [])
    (keys.folder / name).chmod(mode)
    names, (refused,) = keys.names()
    unusable = "this user" if name == "signing.key" else "desk"
    assert names == {key: of for key, of in both.items() if of != unusable}
    assert "not used" in refused.message
    assert f"{keys.folder / name}" in refused.hint
    if name == "signers/desk.key":
        assert (keys.signers(), "not used" in keys.unused()[0].message) == ({}, True)
        return
    with pytest.raises(StorageFailed, match="not used"):
        keys.own() if name == "signing.key" else keys.signers()


@pytest.mark.parametrize("content", [b"", b"ed25519\n", b'curve\n    public-key = "00"\n', b"\xff\n"])
def test_damaged_key_files_are_refused(keys: SigningKeys, other: SigningPair, content: bytes) -> None:
    keys.add("desk", other.public)
    for name, command in (("signing.key", "keys new --signing"), ("signers/desk.key", "keys remove --signer desk")):
        path = keys.folder / name
        before = path.read_bytes()
        path.write_bytes(content)
        names, (refused,) = keys.names()
        assert (len(names), command in refused.hint) == (1, True)
        if name == "signing.key":
            with pytest.raises(StorageFailed, match="damaged"):
                keys.own()
        else:
            assert (keys.signers(), "damaged" in keys.unused()[0].message) == ({}, True)
        path.write_bytes(before)


def test_a_key_is_made_once_and_is_private(keys: SigningKeys) -> None:
    with pytest.raises(InvalidRequest, match="already"):
        keys.make()
    for path in (keys.folder, *keys.folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0


# ---- by command

@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHAOS_ENDPOINT", f"ipc://{tmp_path}/nobody")
    return tmp_path / "home"


def run(store: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--store", str(store), *map(str, arguments)])


def test_signing_by_command(tmp_path: Path, home: Path, path: Path, other: SigningPair) -> None:
    store, uri = tmp_path / "store", "stream://mic/take"
    assert (run(store, "sign", uri).exit_code, run(store, "verify", "--signed", uri).exit_code) == (2, 8)
    made = run(store, "keys", "new", "--signing")
    public = made.stdout.strip()
    assert (len(public), SigningKeys(home / "chaos" / "keys").own().secret in made.output) == (64, False)
    assert "proved by hashes alone" in run(store, "verify", uri).stdout
    done = run(store, "sign", uri)
    assert (done.exit_code, verify(path).recording_hash_v3 in done.stdout) == (0, True)
    said = run(store, "verify", "--signed", uri)
    assert (said.exit_code, f"signed by this user (key {public})" in said.stdout) == (0, True)
    assert f"signing     {public}" in run(store, "keys", "list").stdout

    (path / SIGNATURES_NAME).unlink()
    signed(path, other)
    said = run(store, "verify", "--signed", uri)
    assert (said.exit_code, f"a key that you don't know: {other.public}" in said.stdout) == (8, True)
    assert run(store, "verify", uri).exit_code == 0
    assert run(store, "keys", "add", "--signer", "newsroom", other.public[:-1]).exit_code == 2
    assert run(store, "keys", "add", "--signer", "newsroom", other.public).exit_code == 0
    said = run(store, "verify", "--signed", uri, "--json")
    assert (said.exit_code, json.loads(said.stdout)["signed_by"]) == (0, ["newsroom"])
    assert run(store, "keys", "remove", "--signer", "newsroom").exit_code == 0
    assert run(store, "verify", "--signed", uri).exit_code == 8


def test_a_key_file_that_can_not_be_used_keeps_nobody_from_verifying(tmp_path: Path, home: Path, path: Path) -> None:
    store = tmp_path / "store"
    run(store, "keys", "new", "--signing")
    run(store, "sign", path)
    own = home / "chaos" / "keys" / "signing.key"
    own.chmod(0o644)
    said = run(store, "verify", path)
    assert (said.exit_code, said.stdout.startswith("ok"), f"chmod 600 {own}" in said.stderr) == (0, True, True)
    assert run(store, "verify", "--signed", path).exit_code == 8
    refused = run(store, "sign", path)
    assert (refused.exit_code, f"chmod 600 {own}" in refused.stderr) == (6, True)


def test_a_missing_library_is_told_before_a_missing_key(
    tmp_path: Path, home: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(tmp_path / "store", "sign", path)
    assert (done.exit_code, "no signing key" in done.stderr) == (2, True)
    monkeypatch.setitem(sys.modules, "nacl", None)
    done = run(tmp_path / "store", "sign", path)
    assert (done.exit_code, "PyNaCl" in done.stderr, "no signing key" in done.stderr) == (2, True, False)


def test_a_stream_whose_last_take_has_not_ended_is_not_signed_in_part(tmp_path: Path, home: Path) -> None:
    store = tmp_path / "store"
    run(store, "keys", "new", "--signing")
    takes = three_takes(store)
    done = run(store, "sign", URI)
    assert (done.exit_code, f"{URI}.0003 is still being recorded: nothing was signed" in done.stderr) == (2, True)
    takes[2].writer.close()
    done = run(store, "sign", URI)
    assert (done.exit_code, "chaosctl recover" in done.stderr) == (2, True)
    assert list(store.rglob(SIGNATURES_NAME)) == []


def test_a_defect_in_one_take_leaves_all_unsigned(tmp_path: Path, home: Path) -> None:
    store = tmp_path / "store"
    run(store, "keys", "new", "--signing")
    takes = three_takes(store)
    takes[2].stop()
    chunk = Path(load(takes[2].writer.path).chunks[0].path)
    chunk.chmod(0o644)
    chunk.write_bytes(bytes(chunk.stat().st_size))
    done = run(store, "sign", URI)
    assert (done.exit_code, f"{URI}.0003 has a defect: nothing was signed" in done.stderr) == (8, True)
    assert list(store.rglob(SIGNATURES_NAME)) == []


def test_a_partly_signed_stream_says_which_takes_are(tmp_path: Path, home: Path, other: SigningPair) -> None:
    store = tmp_path / "store"
    run(store, "keys", "new", "--signing")
    three_takes(store)[2].stop()
    run(store, "sign", f"{URI}.0001")
    said = run(store, "verify", URI).stdout
    assert f"1 of 3 takes are signed; unsigned: {URI}.0002, {URI}.0003" in said
    assert "no checked signature" not in said
    for number in (2, 3):
        signed(Store(store).path(f"{URI}.000{number}"), other)
    assert "all 3 takes are signed, but no single key has signed them all" in run(store, "verify", URI).stdout


def test_what_has_not_ended_is_not_called_ok(tmp_path: Path, home: Path) -> None:
    store, uri = tmp_path / "store", "stream://mic/on"
    running = Rotator(RecordingWriter.create(Store(store), definition(uri)))
    said = run(store, "verify", uri).stdout
    assert said.startswith("still recording: checked up to frame 0, what is sealed\n")
    running.write(40)
    n_frames = load(running.writer.path).n_frames
    assert f"still recording: checked up to frame {n_frames}, what is sealed\n" in run(store, "verify", uri).stdout
    report = json.loads(run(store, "verify", uri, "--json").stdout)
    assert (report["ok"], report["all_checked"], report["state"]) == (True, False, "recording")
    assert (run(store, "verify", uri).exit_code, run(store, "verify", "--strict", uri).exit_code) == (0, 8)
    running.writer.close()
    said = run(store, "verify", "--strict", uri)
    assert said.stdout.startswith("interrupted, not recovered yet: run chaosctl recover\n")
    assert (said.exit_code, "ok:" in said.stdout, "nothing that is sealed changed" in said.stdout) == (8, False, True)


def test_a_stream_whose_last_take_has_not_ended_is_not_called_ok(tmp_path: Path, home: Path) -> None:
    store = tmp_path / "store"
    takes = three_takes(store)
    for state, verdict in (("recording", "still recording"), ("interrupted", "interrupted")):
        said = run(store, "verify", "--strict", URI)
        assert (said.exit_code, said.stdout.startswith(verdict)) == (8, True)
        assert f"  ok: {URI}.0002" in said.stdout
        assert f"  {verdict}: {URI}.0003" in said.stdout
        report = verify_uri(Store(store), URI)
        assert (report.all_checked, [take.all_checked for take in report.takes]) == (False, [True, True, False])
        assert report.state == state
        takes[2].writer.close()


def test_what_has_a_defect_is_not_signed(tmp_path: Path, home: Path, path: Path) -> None:
    store = tmp_path / "store"
    run(store, "keys", "new", "--signing")
    chunk = Path(load(path).chunks[0].path)
    chunk.chmod(0o644)
    chunk.write_bytes(bytes(chunk.stat().st_size))
    done = run(store, "sign", "stream://mic/take")
    assert (done.exit_code, "hash_mismatch" in done.stderr) == (8, True)
    assert not (path / SIGNATURES_NAME).exists()


def test_a_bad_signature_is_exit_code_8(tmp_path: Path, home: Path, path: Path, other: SigningPair) -> None:
    made = signed(path, other)
    forged = msgspec.structs.replace(made, signed_wall_ns=1)
    (path / SIGNATURES_NAME).write_bytes(msgspec.json.encode([forged]))
    said = run(tmp_path / "store", "verify", path)
    assert (said.exit_code, said.stdout.startswith("BAD"), "SIGNATURE BAD" in said.stdout) == (8, True, True)


def test_what_has_a_defect_and_has_not_ended_is_told_as_both(tmp_path: Path, home: Path) -> None:
    store, uri = tmp_path / "store", "stream://mic/on"
    stopped = Rotator(RecordingWriter.create(Store(store), definition(uri)))
    stopped.write(40)
    stopped.writer.close()
    chunk = Path(load(stopped.writer.path).chunks[0].path)
    chunk.chmod(0o644)
    chunk.write_bytes(bytes(chunk.stat().st_size))
    said = run(store, "verify", uri)
    assert (said.exit_code, said.stdout.startswith("BAD")) == (8, True)
    assert "interrupted, not recovered yet: run chaosctl recover" in said.stdout
