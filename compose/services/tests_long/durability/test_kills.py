"""Hundreds of kills and flips: nothing acknowledged is lost, nothing wrong is served."""

from pathlib import Path
from typing import Any

import pytest
from tests.index.durable import damage, test_flipped_bits
from tests.index.test_crash import kill_at_random

KILLS, FLIPS = 200, 100

killed = test_flipped_bits.killed


def test_two_hundred_kills_at_random_instants_lose_nothing(tmp_path: Path) -> None:
    assert kill_at_random(tmp_path, KILLS, 4).said > KILLS


@pytest.mark.parametrize("kind", test_flipped_bits.KINDS)
def test_a_hundred_flipped_bits_in_each_kind_of_file_are_mended_or_refused(
    kind: str, killed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    directory, expected = killed
    outcomes = []
    for seed in range(FLIPS // test_flipped_bits.PER_KIND + 1):
        for at, (path, place) in enumerate(test_flipped_bits.places(kind, directory, 1000 + seed)):
            copy = damage.copied(directory, tmp_path / f"s{seed}c{at}")
            damage.flip(copy / path.relative_to(directory), [place])
            outcomes.append(test_flipped_bits.outcome(copy, expected, f"{path.name} bit {place}"))
    print(f"{kind}: {outcomes.count('right')} right, {outcomes.count('refused')} refused")
    assert outcomes.count("refused") <= len(outcomes) // 50
