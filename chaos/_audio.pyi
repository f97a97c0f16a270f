from collections.abc import Sequence

from typing_extensions import Buffer

from chaos._slots import Slots

class AudioSlots(Slots):
    def cycle(
        self,
        position: int,
        n_frames: int,
        data: Buffer | None,
        *,
        rate: int = 48000,
        clock_id: int = 1,
        monotonic_ns: int | None = None,
        now_ns: int = 0,
        clock_flags: int = 0,
        xrun: int = 0,
        interleaved: bool = False,
        torn: bool = False,
        foreign: bool = False,
        doubting: bool = False,
        linked: bool = False,
        doubtful: bool = False,
        asked: bool = False,
        answered: bool = False,
        denied: bool = False,
        other_frames: int = 0,
        whole: bool = False,
    ) -> None: ...
    def measure(
        self, slot: int, first: int, end: int, origin: int = 0
    ) -> list[tuple[float, float, float, int, int, int, int]]: ...
    def levels(self, n_frames: int) -> list[tuple[float, float]]: ...

def interleave(frames: Buffer, planes: Sequence[Buffer], sample_bytes: int) -> None: ...
