"""Where clients may have files put: folders meant for it, never the store's own insides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from chaos.store.store import Store
from chaos.system.folders import check_writable
from chaos.terms.errors import PathNotAllowed
from chaos.terms.visible import visible

__all__ = ["Places", "check_not_of_store"]

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4095


def check_not_of_store(store: Store, out: Path) -> None:
    """Raises PathNotAllowed where a file of this name would be among the store's own, through links or not."""
    try:
        found = out.parent.resolve() / out.name
    except (OSError, RuntimeError):  # a loop of links: nothing can be made there
        return
    if store.owns(found):
        raise PathNotAllowed(
            f"{visible(str(out))} is where the store keeps its own files",
            hint=f"name a file in another folder, {visible(str(Path.home() / out.name))} for example",
        )


class Places:
    """The store (but for what it is made of) and the folders that chaosd was given with --allow-path."""

    def __init__(self, store: Store, allowed: Sequence[Path] = ()) -> None:
        self._store = store
        self._allowed = allowed

    def permit(self, path: str | Path) -> Path:
        """`path` with links resolved: a file that can be made there. Raises PathNotAllowed.

        It is to be opened with `held_folder`, which sees when a link has come into it since.
        """
        # Not Path.resolve, which raises where a loop of links has come into the store's place.
        roots = [Path(os.path.realpath(root)) for root in (self._store.root, *self._allowed)]
        hint = f"use a path below {' or '.join(map(str, roots))}, or start chaosd with --allow-path"
        details = {"allowed": [str(root) for root in roots]}
        try:
            found = Path(path).resolve()
            names = [os.fsencode(name) for name in found.parts[1:]]
            if found.is_symlink():  # from Python 3.13 on resolve() leaves a loop as it is
                raise OSError("it is a loop of links")
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name that can't be encoded
            raise PathNotAllowed(f"{path} can't be used: {error}", hint=hint, details=details) from None
        if not any(root in found.parents for root in roots):
            raise PathNotAllowed(
                f"{path} is outside the folders that chaosd may write to", hint=hint, details=details
            )
        if self._store.owns(found):
            raise PathNotAllowed(
                f"{path} is where the store keeps its own files",
                hint=f"name a file in {self._store.slices}, or in another folder",
            )
        if any(len(name) > _MAX_NAME_BYTES for name in names) or len(os.fsencode(found)) > _MAX_PATH_BYTES:
            raise PathNotAllowed(
                f"a path may have {_MAX_PATH_BYTES} bytes, and each name in it {_MAX_NAME_BYTES}; {path} has more",
                hint="use a shorter one",
            )
        try:
            check_writable(found.parent)
        except OSError as error:
            raise PathNotAllowed(
                f"chaosd can't make files in {found.parent}: {error.strerror}",
                hint="choose another folder, or let its user read and write there",
            ) from None
        return found
