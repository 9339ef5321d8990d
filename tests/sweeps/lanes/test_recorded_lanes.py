"""The recorded packs and the recorded lanes: each lane's box holds what the record tried in it."""

import numpy as np
import pytest

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import LaneError, diff, load_pack
from lanelock.sweeps.lanes.lane import load_lane

TRIED = {"p1": ("p1",), "p2": ("p2",), "p2_r1": ("p2_r1",), "p3": ("p3_first", "p3_recorded")}
STEPS = [  # what each phase of the record changed in the pack of the phase before
    ("baseline", "p1", "alias_layout_policy_v1", {"/law"}),
    ("p1", "p2", "day_effect_policy_v1", {"/law"}),
    ("p2", "p2_r1", "day_effect_policy_v1", {"/sigma_gamma_policy_v2/"}),
    ("p2_r1", "p3_first", "group_mix_regularizer_v1", {"/enabled", "/law", "/max_p_group_soft_cap",
                                                      "/regularization_strength", "/entropy_floor"}),
    ("p3_first", "p3_recorded", "group_mix_regularizer_v1", {"/max_p_group_soft_cap", "/regularization_strength",
                                                            "/entropy_floor"}),
]  # fmt: skip


def pack_of(name):
    return load_pack(name, SEGMENT_2B.policy_schemas, SEGMENT_2B.name)


@pytest.mark.parametrize(("lane", "pack"), [(lane, pack) for lane, packs in TRIED.items() for pack in packs])
def test_a_recorded_lane_admits_what_the_record_tried_in_it(lane, pack):
    opened = load_lane(lane)
    values = opened.admit(pack_of(pack))
    assert not diff(opened.candidate(values), pack_of(pack))
    if lane != "p1":  # the authority's own values, which p1 starts with
        tried = [opened.candidate(row).digest for row in opened.enqueued()]
        assert pack_of(pack).digest in tried


@pytest.mark.parametrize(("before", "after", "policy", "pointers"), STEPS)
def test_a_recorded_pack_differs_from_the_one_before_in_what_its_phase_tuned(before, after, policy, pointers):
    changes = diff(pack_of(before), pack_of(after))
    of_policy = {change.pointer for change in changes if change.policy == policy}
    assert of_policy and all(any(pointer.startswith(field) for field in pointers) for pointer in of_policy)
    rest = {(change.policy, change.pointer) for change in changes if change.policy != policy}
    assert rest <= {("route_rng_policy_v1", "/roster/mode")}


def test_what_was_tuned_here_is_outside_of_the_recorded_envelope():
    with pytest.raises(LaneError):
        load_lane("p2").admit(pack_of("p2_lively"))


@pytest.mark.parametrize("lane", ["p2", "p2_r1"])
def test_the_envelope_of_the_clip_is_derived_from_the_baseline(lane):
    run = SEGMENT_2B.evaluate(pack_of("baseline"), 42, until="S3")
    low, high = np.quantile(np.asarray(run.surfaces["s3_day_effects"]["gamma"]), [0.01, 0.99])
    knobs = load_lane(lane).space.by_name
    assert knobs["clip_low"].low == round(0.75 * low, 6) and knobs["clip_high"].high == round(1.25 * high, 6)
