"""The configuration file: what each key becomes, and what is said of one that is wrong, with its line."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from chaos.protocol.config import Config
from chaos.protocol.configfile import BadConfig, ConfigFile, read_config
from chaos.protocol.requests import AudioFormat, MidiFormat
from chaos.terms.errors import InvalidRequest

NOW = dt.datetime(2026, 11, 26, 10, 15, tzinfo=dt.UTC)

WHOLE = """\
# a logger
store = "recordings"
keep = "30d"
free_margin = "2G"
store_mode = "750"
allow_path = ["/mnt/a", "b"]
log_level = "info"
stop_within = 20

[[stream]]
name = "logger"
device = "USB Mic"
roll = "1h"
align = "clock"
channel_map = "FL, FR"
silent_after = "2m"
latency = 256

[[stream]]
name = "idea"
device = "Keys"
midi = true
standby = "60s"

[[session]]
name = "jam"
[[session.stream]]
name = "voice"
device = "Scarlett"
format = "s32"
[[session.stream]]
name = "keys"
device = "Keystation"
midi = true
"""


def read(tmp_path: Path, text: str) -> ConfigFile:
    path = tmp_path / "chaosd.toml"
    path.write_text(text)
    return read_config(path)


def problems(tmp_path: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(BadConfig) as caught:
        read(tmp_path, text)
    assert caught.value.code == "invalid_request"
    return [tuple(each) for each in caught.value.problems]


def test_each_key_becomes_what_it_says(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    config = Config(**file.settings)
    assert (config.store, config.keep, config.free_margin_bytes) == (tmp_path / "recordings", "30d", 2 << 30)
    assert (config.store_mode, config.stop_within_s, file.log_level) == (0o750, 20, "info")
    assert config.allow_paths == (Path("/mnt/a"), tmp_path / "b")
    logger = file.streams[0].start(NOW)
    assert (logger.uri, logger.device_identity) == ("stream://logger/20261126T101500Z", "USB Mic")
    assert (logger.wait, logger.roll, logger.align, logger.channel_map) == (True, "1h", "clock", ["FL", "FR"])
    assert (logger.silent_after_s, logger.latency_frames, logger.format) == (120, 256, AudioFormat())
    idea = file.streams[1].start(NOW)
    assert (idea.format, idea.standby_s) == (MidiFormat(), 60)
    jam = file.sessions[0].start(NOW)
    assert (jam.session, jam.wait) == ("jam-20261126T101500Z", True)
    assert [each.uri for each in jam.streams] == [f"stream://{n}/jam-20261126T101500Z" for n in ("voice", "keys")]
    assert jam.streams[0].format == AudioFormat(sample_format="s32")
    assert file.told().endswith("ok, 2 streams, 1 session; whether the devices are there was not checked")


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "").settings == {}


@pytest.mark.parametrize(
    ("was", "becomes", "line", "said", "hint"),
    [
        ('keep = "30d"', 'keep = "30"', 3, "keep: what to keep has no unit", "7d"),
        ('keep = "30d"', "keep = 30", 3, "keep: expected text in quotes", "30"),
        ('keep = "30d"', 'kepp = "30d"', 3, 'unknown key "kepp"', 'did you mean "keep"?'),
        ('keep = "30d"', 'xyzzy = "30d"', 3, 'unknown key "xyzzy"', "known are store"),
        ('log_level = "info"', 'log_level = "loud"', 7, "no log level 'loud'", "debug"),
        ("stop_within = 20", "stop_within = 0", 8, "stop_within is 0", "1 to 86400"),
        ('store_mode = "750"', 'store_mode = "999"', 5, "'999' is not a mode", "700"),
        ('store_mode = "750"', 'store_mode = "777"', 5, "777 can't be the mode", "750"),
        ('roll = "1h"', 'roll = "1"', 13, "roll: the duration 1 has no unit", "1s for seconds"),
        ('align = "clock"', 'align = "sun"', 14, "align", "clock"),
        ('align = "clock"', 'allign = "clock"', 14, 'unknown key "allign"', 'did you mean "align"?'),
        ('align = "clock"', 'at = "18:00"', 14, 'unknown key "at"', "chaosctl start --at 18:00 --for 2h"),
        ('channel_map = "FL, FR"', 'channel-map = "FL"', 15, 'unknown key "channel-map"', '"channel_map"'),
        ('name = "logger"', 'name = "a/b"', 11, "must have two parts", "NAME"),
        ('name = "logger"', "", 10, "this stream has no name", "name ="),
        ('device = "USB Mic"', "", 10, "this stream has no device", "chaosctl devices"),
        ('name = "idea"', 'name = "logger"', 20, 'another stream "logger"', "of its own"),
        ('standby = "60s"', 'standby = "2h"', 23, "standby", ""),
        ('standby = "60s"', "rate = 48000", 23, "rate is for audio", "leave it out"),
        ('format = "s32"', 'format = "f99"', 30, "'f99' can't be recorded", "f32, s16, s32"),
        ('format = "s32"', 'roll = "1h"', 30, 'unknown key "roll"', ""),
        ('name = "jam"', "", 25, "this session has no name", "jam"),
        ("latency = 256", 'latency = "5ms"', 17, "needs a sample rate", ""),
        ('store = "recordings"', 'store = "a\\u0000b"', 2, "store: 'a\\x00b' has a NUL character", "without"),
        ('store = "recordings"', 'endpoint = "ipc:///a\\u0000b"', 2, "endpoint: ", "without"),
        ('store = "recordings"', 'store = "~nobody-of-that-name/x"', 2, "store: there is no home folder", "from / on"),
        ('"/mnt/a", "b"', '"/mnt/a", "b\\u0000"', 6, "allow_path: ", "without"),
        ("stop_within = 20", "stop_within = nan", 8, "stop_within: expected a number", "found nan"),
        ("stop_within = 20", "stop_within = 0x1" + "0" * 400, 8, "number is too large", "64 bits"),
        ("stop_within = 20", "stop_within = 1" + "0" * 5000, 8, "number is too large", "64 bits"),
        ("stop_within = 20", "staging_seconds = 1e12", 8, "staging_seconds is 1000000000000.0", "0.1 to 3600"),
        ('free_margin = "2G"', "free_margin = -1", 4, "free_margin is -1", "0 to"),
        ('silent_after = "2m"', "silent_below = nan", 16, "silent_below: expected a number", "found nan"),
        ('silent_after = "2m"', 'silent_after = "2d"', 16, 'silent_after: "2d" can\'t be used', "from 1s to 86400s"),
        ('silent_after = "2m"', "staging_seconds = 1e12", 16, "staging_seconds: 1000000000000.0 can't", "0.1 to 3600"),
        ('silent_after = "2m"', "rate = 3", 16, "rate is 3", "1000 to 1536000"),
        ('standby = "60s"', 'standby = "100d"', 23, 'standby: "100d" can\'t be used', "from 1s to 3600s"),
        ("latency = 256", "latency = 0", 17, "latency: 0 can't be used", "from 1 to 65536"),
        ('device = "USB Mic"', 'device = ""', 12, 'device: "" can\'t be used', "1 to 1024 characters"),
        ('channel_map = "FL, FR"', "channel_map = []", 15, "channel_map: [] can't be used", "1 to 256 names"),
        ('channel_map = "FL, FR"', 'channel_map = "FL,FL"', 15, "channel_map: FL is named twice", "once"),
        ('standby = "60s"', 'standby = "9s"\nroll_on_format_change = true', 19, "standby and roll_on_format", ""),
        ("[[session]]\n", "[session]\n", 25, "session must be a list of tables", "[[session]]"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, was: str, becomes: str, line: int, said: str, hint: str
) -> None:
    assert was in WHOLE
    text = WHOLE.replace(was, becomes, 1)
    if becomes == "[session]\n":
        text = text.split("[[session.stream]]")[0]
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    assert found[0][0] == line, found
    assert said in found[0][1]
    assert hint in found[0][2]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = 'kepp = "1d"\nstore = 3\n[[stream]]\nname = "a"\nrol = "1h"\n'
    assert [line for line, _, _ in problems(tmp_path, text)] == [1, 2, 3, 5]
    with pytest.raises(BadConfig) as caught:
        read(tmp_path, text)
    assert f"{tmp_path}/chaosd.toml:1: unknown key" in caught.value.lines()[0]
    assert "and 3 more" in caught.value.message


def test_what_is_wrong_beside_what_is_missing_is_told_as_well(tmp_path: Path) -> None:
    bad = 'standby = "100d"\nlatency = 0\nrate = 1\nkeep = "1"\nname = "a"\n'
    text = f'[[stream]]\n{bad}[[stream]]\n{bad}[[session]]\n[[session.stream]]\nkeep = "1"\nchannels = 0\n'
    of_streams = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]  # device, four values; and the name of the second
    found = problems(tmp_path, text)
    assert [line for line, _, _ in found] == [*of_streams, 13, 14, 14, 15, 16], found
    assert not any("_s`" in message or "stream_start" in message + hint for _, message, hint in found)


def test_commands_and_events_need_an_endpoint_each(tmp_path: Path) -> None:
    found = problems(tmp_path, 'endpoint = "ipc:///a"\nevents = "ipc:///a"\n')
    assert [(line, message) for line, message, _ in found] == [(2, "events: commands have this endpoint")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("keep = 1\nstore = " + "[" * 5000, 2),
        ("keep = 1\nstore = " + "{a=" * 5000, 2),
        ("\nstore" + ".a" * 500 + " = 1\n", 2),
        ("[[stream]]\nname = [[[[[[[[[[1]]]]]]]]]]\n", 2),
    ],
)
def test_what_is_nested_too_deeply_is_told(tmp_path: Path, text: str, line: int) -> None:
    assert [(n, said) for n, said, _ in problems(tmp_path, text)] == [(line, "this is nested too deeply")]


def test_a_byte_order_mark_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'\xef\xbb\xbfkeep = "7d"\n')
    assert read_config(path).settings == {"keep": "7d"}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidRequest, match="is not a plain file"):
            read_config(path)


def test_a_setting_that_is_no_path_is_refused_from_the_command_line_too() -> None:
    for name, path in (("store", "a\0b"), ("staging_dir", "/\0"), ("keys", "\0"), ("store", "~nobody-of-that-name")):
        with pytest.raises(InvalidRequest, match=r"NUL|home folder"):
            Config(**{name: Path(path)})  # type: ignore[arg-type]


def test_lines_are_found_behind_values_of_many_lines(tmp_path: Path) -> None:
    text = 'store = """a\nkeep = 3\n"""\nallow_path = [\n  "a",\n\n  7,\n]\nkeep = 3\n'
    assert [line for line, _, _ in problems(tmp_path, text)] == [4, 9]


@pytest.mark.parametrize(
    ("raw", "line"),
    [(b'a = 1\nb = "x\n', 2), (b"a = 1\na = 2\n", 2), (b'a = "1"\nb = "\xff"\n', 2), (b"\n\n[[stream]\n", 3)],
)
def test_what_is_no_toml_has_its_line(tmp_path: Path, raw: bytes, line: int) -> None:
    path = tmp_path / "chaosd.toml"
    path.write_bytes(raw)
    with pytest.raises(BadConfig) as caught:
        read_config(path)
    assert caught.value.problems[0].line == line


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"can't read the configuration .*No such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(InvalidRequest, match="Is a directory"):
        read_config(tmp_path)
    (tmp_path / "big.toml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(InvalidRequest, match="larger than 1 MiB"):
        read_config(tmp_path / "big.toml")


def test_an_endpoint_of_the_network_is_sound_if_keys_are_there(tmp_path: Path) -> None:
    assert read(tmp_path, 'endpoint = "tcp://0.0.0.0:47800"\n').settings["endpoint"].startswith("tcp://")
    assert "not a valid endpoint" in problems(tmp_path, 'endpoint = "tcp://x"\n')[0][1]


def looked_at(tmp_path: Path, text: str) -> list[str]:
    """What is said of it on this machine, each with its line."""
    path = tmp_path / "chaosd.toml"
    path.write_text(text)
    try:
        read_config(path, None)
    except BadConfig as error:
        return [f"{each.line}: {each.message}" for each in error.problems]
    return []


def test_all_that_this_machine_refuses_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o755)  # whatever umask a test before has left
    (other / "holiday.jpg").touch()
    found = looked_at(
        tmp_path,
        f'store = "{other}"\n'
        f'endpoint = "ipc://{tmp_path}/file"\n'
        f'events = "ipc://{tmp_path}/file/deeper/events"\n'
        'staging_dir = "file/staging"\n'
        'upload_as = "rig1"\n'
        'keep = "7"\n',
    )
    assert found == [
        f"1: store: {other} has other things in it and mode 755, and a store has 700",
        f"2: endpoint: {tmp_path}/file is there already, and is not a socket",
        f"3: events: can't use {tmp_path}/file: Not a directory",
        f"4: staging_dir: can't use {tmp_path}/file: Not a directory",
        "5: upload_as names a recorder, and nothing is uploaded",
        "6: keep: what to keep has no unit: 7",
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["chaosd.toml", "file", "other"]  # nothing was made


def test_what_this_machine_allows_is_sound_and_not_made(tmp_path: Path) -> None:
    text = f'store = "new/store"\nendpoint = "ipc://{tmp_path}/run/c"\nevents = "ipc://{tmp_path}/run/e"\n'
    assert looked_at(tmp_path, text + 'staging_dir = "new/staging"\nupload_as = "a"\nupload = "s3://b/p"\n') == []
    assert [each.name for each in tmp_path.iterdir()] == ["chaosd.toml"]


def test_an_endpoint_of_the_network_needs_keys_and_its_line_is_told(tmp_path: Path) -> None:
    [problem] = looked_at(tmp_path, '# at home\nendpoint = "tcp://*:47800"\n')
    assert problem.startswith("2: endpoint: tcp://*:47800 is refused: without keys")
    assert looked_at(tmp_path, 'endpoint = "tcp://*:47800"\nkeys = "keys"\n') == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    [problem] = looked_at(tmp_path, f'store = "{closed}/store"\n')
    assert problem == f"1: store: can't use {closed}: Permission denied"
