"""The simulation of a fleet in short: what a store that fails does to uploads, and that the comparison finds damage."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from proof import catchup, fleet, fleetindex, leveljob, uploadcost
from proof.catchup import measure_catch_up
from proof.faultystore import FAULTS, FaultyStore
from proof.fleet import Shape, measure, table

from chaos.remote.bucket import Bucket


def test_a_fleet_on_a_store_that_fails_arrives_whole(tmp_path: Path) -> None:
    shape = Shape(2, hours=1 / 2, fault_rate=0.05, kill_rate=0.3, away=0.34)
    found = measure(shape, tmp_path, lambda _: None)
    assert found.is_whole, found
    assert found.expected > 2 * 24
    assert found.gaps > 0
    assert found.requests["PUT"] > found.expected, "some came again"
    assert found.injected["away"] > 0
    assert "| wrong | 0 |" in table(found)


def test_what_is_damaged_over_there_is_found(tmp_path: Path) -> None:
    def meddle(bucket: Bucket) -> None:
        key = next(key for key, _ in bucket.objects("rig0000/recordings") if "/audio/c/0/" in key)
        bucket.put(key, bytes(len(bucket.get(key))))

    found = measure(Shape(1, hours=1 / 6, fault_rate=0.0, away=0.0), tmp_path, lambda _: None, meddle)
    assert (found.wrong, found.unverified, found.missing) == (1, 1, 0)
    assert not found.is_whole


def test_each_fault_is_injected_as_it_is_called() -> None:
    """Against a server that counts what reaches it."""
    reached: list[str] = []

    class Behind(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            reached.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    expected = {"dropped": (0, None), "answer lost": (1, None), "doubled": (2, 200), "slow": (1, 200), "500": (0, 500),
                "503": (0, 503), "away": (0, None)}  # fmt: skip
    with HTTPServer(("127.0.0.1", 0), Behind) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.02))
        thread.start()
        try:
            for fault, (n_reached, status) in expected.items():
                reached.clear()
                store = FaultyStore(server.server_address[1], 0.0, 1)
                if fault == "away":
                    store.set_away("rig1", is_away=True)
                else:
                    assert fault in FAULTS
                    store._fault = lambda fault=fault: fault  # type: ignore[method-assign]
                assert _status(f"{store.endpoint}/bucket/rig1/key") == status, fault
                assert len(reached) == n_reached, fault
                assert (store.injected[fault], store.requests["PUT"], store.n_bytes) == (1, 1, 3)
                store.close()
        finally:
            server.shutdown()
            thread.join()


def _status(url: str) -> int | None:
    """Of a put; None where no answer came."""
    from urllib.error import HTTPError, URLError

    try:
        with urlopen(Request(url, b"abc", method="PUT"), timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except (TimeoutError, URLError, ConnectionError):
        return None


def test_an_uploader_that_catches_up_is_measured(tmp_path: Path) -> None:
    found = measure_catch_up(tmp_path, 1, 40_000_000)
    assert found.n_bytes > 2 * 480_000 * 4
    assert 0 < found.share < 1
    assert "of the link" in catchup.table(found)


def test_what_the_index_costs_is_measured(tmp_path: Path) -> None:
    template = fleetindex._Template(tmp_path)
    first, second = (fleetindex._day(template, tmp_path / "many", 2, day, 60) for day in range(2))
    assert 2 * 50 < first.references <= 2 * (60 + 2)
    assert second.written < 1.2 * first.written


SIMULATED = (fleet.MARKS, fleet.OUTAGE_MARKS, fleet.MANY_MARKS)


@pytest.mark.parametrize("marks", [*SIMULATED, fleetindex.MARKS, catchup.MARKS, leveljob.MARKS, uploadcost.MARKS])
def test_the_page_has_the_figures_of_a_run(marks: tuple[str, str]) -> None:
    text = fleet.REPORT.read_text()
    begin, end = (text.index(mark) for mark in marks)
    told = text[begin:end]
    assert "by `tools/fleet " in told
    if marks in SIMULATED:
        assert "| wrong | 0 |" in told
        assert "| missing | 0 |" in told
