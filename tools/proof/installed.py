"""chaosd as `pip install chaosd` makes it: with what it needs and no more, compiled, and no path hooks of a checkout.

What a command takes to start depends on that: the hooks of an editable installation add 12 ms to each, and where
PYTHONDONTWRITEBYTECODE is set, the modules of a checkout are compiled anew each time, which doubles it.
"""

from __future__ import annotations

import compileall
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

import chaos

__all__ = ["Installed", "needed"]

_SCRIPT = """#!{python}
import sys
from {module} import main
if __name__ == "__main__":
    sys.exit(main())
"""


class Installed:
    """A virtual environment in `folder`, linked to this checkout and to the distributions that it runs with.

    `python`, `chaosd` and `chaosctl` are paths of its programs.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        for path in sorted({Path(chaos.__file__).parent, *needed()}):
            _compile(path)
            (packages / path.name).symlink_to(path)
        self.chaosd = self._script("chaosd", "chaos.daemon")
        self.chaosctl = self._script("chaosctl", "chaos.cli.main")

    def _script(self, name: str, module: str) -> Path:
        path = self.python.with_name(name)
        path.write_text(_SCRIPT.format(python=self.python, module=module))
        path.chmod(0o755)
        return path


def needed() -> Iterator[Path]:
    """The folders and files, beside each other, of all distributions that chaosd requires."""
    seen: set[str] = set()
    asked = ["chaosd"]
    while asked:
        name = asked.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # a requirement of another platform
        if name != "chaosd":
            yield from _parts(found)
        for text in found.requires or []:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                asked.append(one.name)


def _parts(found: Distribution) -> Iterator[Path]:
    names = {file.parts[0] for file in found.files or []}
    for name in names - {"..", "__pycache__"}:
        yield Path(str(found.locate_file(name))).resolve()


def _compile(path: Path) -> None:
    """As pip does; what is compiled already is left alone."""
    if path.is_dir():
        compileall.compile_dir(path, quiet=2)
    elif path.suffix == ".py":
        compileall.compile_file(path, quiet=2)
