from typing_extensions import Buffer

from chaos._slots import Slots

class MidiSlots(Slots):
    def cycle(
        self,
        position: int,
        n_frames: int,
        data: Buffer | None,
        *,
        size: int | None = None,
        maxsize: int = 65536,
        offset: int = 0,
        rate: int = 48000,
        clock_id: int = 1,
        monotonic_ns: int | None = None,
        clock_flags: int = 0,
        xrun: int = 0,
        torn: bool = False,
        foreign: bool = False,
    ) -> None: ...
    def heard(self) -> tuple[bytes, int, int] | None: ...
    def measure(
        self, slot: int, first: int, end: int, origin: int = 0
    ) -> list[tuple[float, float, float, int, int, int, int]]: ...
    def levels(self, n_frames: int) -> list[tuple[float, float]]: ...
