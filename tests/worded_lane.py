"""A lane over an engine whose policy has every kind of field: shares that sum to one, laws that move vectors, texts."""

import json

from lanes import TESTS

from lanelock.sweeps.lanes.lane import load_lane

P = "mix_policy_v1#/"
SHARES = {name: {"at": f"{P}shares/{name}"} for name in "abc"}
DOCUMENT = {
    "id": "mix", "title": "A mix", "why": "Knobs of every kind.", "engine": "mix",
    "authority": str(TESTS / "mix_engine" / "pack"),
    "fixed": {}, "seeds": [1, 2], "gates": {"grade": ["cost"], "rails": []},
    "objectives": [{"name": "cost", "direction": "minimize", "metric": "mix/cost"}],
    "budget": {"trials": 12, "seconds": 600}, "batch": 3, "decision": {"accept_band": "B", "margin_reserve": 0.0},
}  # fmt: skip
NASTY = {
    "knobs": {
        **SHARES, "floor": {"at": f"{P}floor"}, "cap": {"at": f"{P}cap"}, "law": {"at": f"{P}law"},
        "count": {"at": f"{P}count"}, "open": {"at": f"{P}open"},
        "knee": {"at": f"{P}knee", "step": 0.1, "when": "law != 'flat' and floor < 0.9"},
        "temper": {"at": f"{P}weights", "by": "temper", "low": 0.5, "high": 2},
        "scale": {"at": [f"{P}table", f"{P}stock"], "by": "scale", "low": 0.5, "high": 1.5, "when": "open"},
    },
    "constraints": ["a + b + c == 1", "floor <= cap - 0.1", "law == 'smooth' or knee <= 0.5", "cap * floor <= 0.3"],
    "constants": {"speed": f"{P}speed"},
    "derived": {f"{P}ceiling": "cap + 0.1 * speed", f"{P}slots": "10 * floor + count"},
}  # fmt: skip


def mix_lane(folder, **fields):
    """Returns the lane with fields replaced. The engine's folder must be on the path."""
    path = folder / "lane.json"
    path.write_text(json.dumps({**DOCUMENT, **fields}))
    return load_lane(str(path))
