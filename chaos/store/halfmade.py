"""A recording's folder before it has its name: all of it that can be there before the first frame is."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from pathlib import Path

from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.store.store import Store
from chaos.system.files import make_folders, storage_errors, sync_folder
from chaos.system.folders import OpenFolder

__all__ = ["HalfMade"]


class HalfMade:
    """Alive from construction to `named` or `discard`: nobody takes the folder for a recording, and a recovery leaves
    it alone, since its journal is locked.

    Attributes:
        path: where the folder lies.
        folder, root: it and the store's, open.
        journal: without a line.

    Raises InvalidURI, StorageFull or StorageFailed; then nothing is left.
    """

    def __init__(self, store: Store, uri: str, chunks: str | None) -> None:
        """`chunks`: where its chunk files are to lie in the folder, None where that is elsewhere."""
        path = store.path(uri)
        self.path = store.hidden(path)
        with storage_errors("create", path), ExitStack() as opened:
            make_folders(path.parent)
            self.path.mkdir()
            opened.callback(shutil.rmtree, self.path, ignore_errors=True)
            self.folder = opened.enter_context(closing(OpenFolder(self.path)))
            self.root = opened.enter_context(closing(OpenFolder(store.root)))
            self.journal = opened.enter_context(closing(Journal.empty(self.path / JOURNAL_NAME)))
            if chunks is not None:
                make_folders(self.path / chunks)
            sync_folder(self.path)
            opened.pop_all()

    def named(self, path: Path) -> None:
        """Gives the folder this name, durably. Raises OSError; it has whichever name it then has."""
        self.path.rename(path)
        self.path = path
        self.folder.renamed(path)
        self.journal.moved(path / JOURNAL_NAME)
        sync_folder(path.parent)

    def discard(self) -> None:
        """Closes and removes it. Twice is harmless."""
        for each in (self.folder, self.root, self.journal):
            each.close()
        shutil.rmtree(self.path, ignore_errors=True)
