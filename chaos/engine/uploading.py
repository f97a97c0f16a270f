"""The uploader's process as the engine sees it: started, told of what is sealed, heard, started again where it ends."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from chaos.protocol.answers import UploadStatus
from chaos.protocol.config import Config
from chaos.protocol.uploads import Told, UploadState, decode_told

__all__ = ["Uploading", "hold_for_upload"]

log = logging.getLogger(__name__)

_AGAIN_S = (1.0, 5.0, 30.0, 60.0)
_REFUSED = 2
_END_WITHIN_S = 7.0  # the uploader gives itself 5 s to send what was sealed last


def hold_for_upload(config: Config) -> None:
    """From now on retention waits for what this configuration uploads, or for nothing: for whoever has the store alone.

    Raises StorageFull or StorageFailed.
    """
    from chaos.store.uploaded import set_target

    set_target(config.store, config.upload_prefix)


class Uploading:
    """The upload that the configuration asks for; nothing at all without one. `start` once, then `close`.

    `on_told` is called, on a thread of its own, with each thing that the uploader tells; `wake` from any thread, and
    never waits.
    """

    def __init__(self, config: Config, on_told: Callable[[Told], object]) -> None:
        self._config = config
        self._on_told = on_told
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._state = UploadState("waiting", "the object store has not been reached yet")

    def start(self) -> None:
        if self._config.upload is None:
            return
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was sealed."""
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None:
                with suppress(OSError, ValueError):  # it has died, or has more than enough to read
                    os.write(process.stdin.fileno(), b"\n")

    def status(self) -> UploadStatus | None:
        """How the upload stands; None where there is none."""
        prefix, state = self._config.upload_prefix, self._state
        if prefix is None:
            return None
        return UploadStatus(prefix, state.state, state.reason, state.n_takes, state.n_bytes)

    def close(self) -> None:
        """Lets it send what was sealed last, for a few seconds; what is left then, the next start sends."""
        self._ending.set()
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        if process is not None:
            try:
                process.wait(min(_END_WITHIN_S, self._config.stop_within_s / 2))
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        for number in range(1 << 30):
            try:
                code = self._listen(self._begun())
            except OSError as error:
                log.warning("the uploader could not be started: %s", error)
                code = 1
            if self._ending.is_set():
                return
            if code == _REFUSED:  # a person has to do something, and it has told what
                return
            self._hear(UploadState("waiting", "the uploader ended unexpectedly, and is started again"))
            if self._ending.wait(_AGAIN_S[min(number, len(_AGAIN_S) - 1)]):
                return

    def _begun(self) -> subprocess.Popen[bytes]:
        config = self._config
        assert config.upload is not None
        limit = [] if config.upload_limit is None else [str(config.upload_limit)]
        module = [sys.executable, "-P", "-m", "chaos.upload"]
        command = [*module, str(config.store), config.upload, config.recorder, *limit]
        # In a session of its own: Ctrl-C is for chaosd, which ends it by its stdin.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        with self._lock:
            self._process = process
            if self._ending.is_set():
                process.stdin.close()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> int:
        """Hears it to its end; its exit code."""
        assert process.stdout is not None
        rest = b""
        with process.stdout as told:
            while block := told.read(1 << 16):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    try:
                        self._hear(decode_told(line))
                    except ValueError:
                        log.warning("the uploader told what makes no sense: %.200r", line)
        code = process.wait()
        with self._lock:
            self._process = None
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        return code

    def _hear(self, told: Told) -> None:
        if isinstance(told, UploadState):
            before, self._state = self._state, told
            if (before.state, before.reason) != (told.state, told.reason) and told.state in ("waiting", "refused"):
                log.warning("upload: %s", told.reason)
        self._on_told(told)
