"""What the bench starts is what people install: see `tools/proof/installed.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from proof.installed import Installed

import chaos


def test_it_is_this_chaosd_with_what_it_needs_and_no_more(tmp_path: Path) -> None:
    installed = Installed(tmp_path / "venv")
    code = (
        "import chaos, chaos.client, chaos.export.converting, chaos.cli.show\n"
        "import pathlib, platformdirs, rich, soundfile, sys\n"
        "from importlib.util import find_spec\n"
        "print(chaos.__file__)\n"
        "print([m for m in ('pytest', 'zarr', 'Cython', 'mypy') if find_spec(m)])\n"
        "specs = [m.__spec__ for name, m in sys.modules.items() if name.split('.')[0] in ('chaos', 'msgspec', 'zmq')]\n"
        "print([spec.name for spec in specs if spec.cached and not pathlib.Path(spec.cached).exists()])\n"
    )
    said = subprocess.run([installed.python, "-c", code], capture_output=True, text=True, check=True).stdout
    there, beside, uncompiled = said.splitlines()
    assert Path(there).resolve() == Path(chaos.__file__).resolve()
    assert (beside, uncompiled) == ("[]", "[]")
    for program in (installed.chaosd, installed.chaosctl):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        assert chaos.__version__ in told
