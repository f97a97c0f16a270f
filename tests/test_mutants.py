"""The table of mutants keeps up with the code: each still applies, and its tests are there (see tools/mutants)."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof.mutants import MUTANTS, Mutant, mutated

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_still_applies(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    assert mutated(mutant, source) != source


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_tests_are_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text() if name else (ROOT / path).exists()


def test_names_are_unique_and_a_change_that_is_not_there_is_told() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    with pytest.raises(ValueError, match="2 times"):
        mutated(Mutant("x", "file", "a", "b", ()), "a a")
