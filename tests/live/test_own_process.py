"""An engine in a program of one's own: no socket, no ZeroMQ, and the same frames."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import zarr
from harness import SourceFactory
from rig import Session

PROGRAM = '''
import json, pathlib, queue, sys
import msgspec
from chaos.engine.engine import Engine
from chaos.protocol.config import Config
from chaos.protocol.events import StreamHeadPosition
from chaos.protocol.requests import AudioFormat, StreamStart, StreamStop

folder, device = pathlib.Path(sys.argv[1]), sys.argv[2]
config = Config(endpoint=f"ipc://{folder}/c", events_endpoint=f"ipc://{folder}/e", store=folder / "store")
told = queue.SimpleQueue()
with Engine(config) as engine:
    engine.add_sink(told.put, heads=True)
    format = AudioFormat()
    engine.submit(StreamStart(uri="stream://own/1", device_identity=device, format=format)).result(20)
    heads = (each.event.frame for each in iter(lambda: told.get(timeout=20), None)
             if isinstance(each.event, StreamHeadPosition))
    next(frame for frame in heads if frame > 48_000)
    ended = engine.submit(StreamStop(uri="stream://own/1")).result(20)
print(json.dumps([msgspec.to_builtins(ended), any("zmq" in name for name in sys.modules)]))
'''


def test_a_program_records_by_itself(session: Session, counting_source: SourceFactory, tmp_path: Path) -> None:
    source = counting_source("own", channels=2, driver=True, speed=4)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), source.name],
        env=session.env, stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )
    ended, has_zmq = json.loads(done.stdout)
    assert not has_zmq
    assert (ended["clean"], ended["n_gaps"], ended["lost_frames"]) == (True, 0, 0)
    samples = zarr.open_array(f"{ended['recording']}/audio", mode="r")[:]
    assert samples.shape == (2, ended["n_frames"])
    assert source.check(samples).ok
