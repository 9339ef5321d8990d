"""A change that takes a required seed out of a gate file's profile, or the profile itself, is refused."""

from types import SimpleNamespace

import pytest

from lanelock.sweeps.repository.rules import _fewer_seeds


def side(**profiles):
    gates = {"gates.json": {"profiles": {name: {"seeds": seeds} for name, seeds in profiles.items()}}}
    return SimpleNamespace(lanes={}, locks={}, campaigns={}, evidence={}, gates=gates)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"smoke": [1], "certification": [1, 2]}, "/profiles/certification/seeds: seed 3 is removed"),
        ({"certification": [1, 2, 3]}, "/profiles/smoke/seeds: seed 1 is removed"),
        ({"smoke": [1], "certification": [1, 2, 3, 4]}, None),
        ({"smoke": [1], "witness": [1, 2], "certification": [3, 2, 1]}, None),
    ],
)
def test_what_was_required_stays_required(after, said):
    sides = SimpleNamespace(before=side(smoke=[1], certification=[1, 2, 3]), after=side(**after))
    refused = [row.why for row in _fewer_seeds(sides)]
    assert refused == [] if said is None else len(refused) == 1 and refused[0].startswith(said)
