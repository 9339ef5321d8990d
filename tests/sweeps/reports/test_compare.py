"""What `compare` says differs, held against what is known to differ."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from lanes import QUEUE, refused

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.scoring.gates import parse_gates
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.reports.difference import _judge, compare, same_engine
from lanelock.sweeps.reports.subject import find, settled
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with a closed sweep of the queue."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    play(load_lane(str(QUEUE / "lane.json")), place, track=False)
    return place


def compared(a, b, place, seeds=()):
    old, new = (find(str(name), place, None) for name in (a, b))
    same_engine(old, new)
    old = settled(old, new, seeds)
    return compare(old, settled(new, old, seeds))


def pack_with(folder, **fields):
    """The queue's pack with fields replaced."""
    document = {**read_json(QUEUE / "pack" / "queue_policy_v1.json"), **fields}
    shutil.copytree(QUEUE / "pack", folder)
    (folder / "queue_policy_v1.json").write_text(json.dumps(document))
    return folder


@pytest.mark.plan("P1.8", "P1.RO.8")
def test_two_packs_by_the_engines_own_keys_and_the_gates_own_comparisons(tmp_path):
    found = compared("p2_r1", "p3_recorded", Workspace(tmp_path / "none"))
    assert found.seeds == ((42,), (42,)), "a shipped campaign's first seed"
    assert {(row.policy, row.pointer) for row in found.policies} == {
        ("group_mix_regularizer_v1", f"/{field}")
        for field in ("enabled", "law", "regularization_strength", "entropy_floor")
    }
    assert [row.name for row in found.states if row.recomputed] == ["S0", "S4", "S5", "S7"]
    assert {row.name: row.moved_by for row in found.states}["S5"] == ("input S4",)
    said = {row.name: row.direction for row in found.metrics}
    assert (
        said["s4/max_p_median"] == "better"
        and said["s4/atom_share"] == "worse"
        and said["s4/intervention"] == "neutral"
    )
    assert "s1/gap" in found.same and "s1/gap" not in said
    gate = next(row for row in found.gates if row.before.id == "s4_max_p")
    assert gate.before.margins["B"] == pytest.approx((0.85 - gate.before.value) / 0.85)
    assert (gate.before.holds, gate.after.holds) == (None, "B+")
    assert found.vetoes == ((), ("s4_atom", "s4_cliff"))
    assert not (tmp_path / "none").exists(), "to compare two packs no workspace is made"


def test_two_trials_are_what_the_study_holds(workspace):
    from lanelock.sweeps.search.study import Studies

    trials = Studies(workspace.journal).transcript("queue-1").trials
    whole = [told for told in trials if len(told.record.measures) == 3][:2]
    found = compared(*(f"queue-1/{told.number}" for told in whole), workspace)
    changed = {row.pointer: (row.before, row.after) for row in found.policies}
    for knob in ("servers", "service"):
        old, new = (told.values[knob] for told in whole)
        assert changed.get(f"/{knob}", (old, old)) == (old, new)
    for row in found.metrics:
        worst = min if row.name == "q1/served_at_once" else max
        seen = [worst(measured[row.name] for measured in told.record.measures.values()) for told in whole]
        assert [row.before, row.after] == seen
    assert {row.name: row.direction for row in found.metrics}.get("q1/servers", "neutral") == "neutral"


def test_a_vetoed_trial_is_compared_on_the_seeds_it_was_run_on(workspace):
    from lanelock.sweeps.search.study import Studies

    trials = Studies(workspace.journal).transcript("queue-1").trials
    vetoed = next(told for told in trials if told.constraints["crowd"] > 0)
    other = next(told for told in trials if len(told.record.measures) == 3)
    found = compared(f"queue-1/{other.number}", f"queue-1/{vetoed.number}", workspace)
    assert found.seeds[0] == found.seeds[1] == tuple(vetoed.record.measures)
    assert found.vetoes == ((), ("crowd",)) and any("left out below" in note for note in found.notes)


def test_a_lock_against_itself_and_its_own_trial_differs_in_nothing(workspace):
    lock = next(workspace.locks.glob("*.json"))
    trial = f"queue-1/{read_json(lock)['trial']}"
    for other in (lock, trial):
        found = compared(lock, other, workspace)
        assert not found.policies and not found.metrics and not any(row.recomputed for row in found.states)
        assert len(found.same) == 3 and found.seeds == ((1, 2, 3), (1, 2, 3))
        assert all(row.before.margins == row.after.margins for row in found.gates)


def test_evidence_is_read_on_the_seeds_it_was_certified_on(workspace):
    lock = next(workspace.locks.glob("*.json"))
    certified = certify_lock(lock, workspace, seeds=(2, 3), holdout=1)
    found = compared(lock, certified.folder.name, workspace)
    assert not found.metrics and not found.policies and found.seeds == ((2, 3), (2, 3))
    assert found.after.kind == "evidence" and len(found.after.measures) == 3
    assert found.after.stated == f"{certified.verdict}: {certified.reason}"
    (certified.folder / "lock.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"lock\.json"):
        compared(lock, certified.folder, workspace)


def test_a_pack_is_run_on_the_seeds_of_the_other_side_or_on_those_asked_for(workspace, tmp_path):
    slow = pack_with(tmp_path / "slow", servers=6, service=1.0)
    assert compared("queue-1", slow, workspace).seeds == ((1, 2, 3), (1, 2, 3))
    assert compared(slow, QUEUE / "pack", workspace, (5, 6)).seeds == ((5, 6), (5, 6))
    assert compared(slow, QUEUE / "pack", workspace).seeds == ((42,), (42,)), "no campaign of this engine is shipped"
    with pytest.raises(PolicyError, match=r"queue-1.*--seed 9: it was measured on seed 1, 2, 3"):
        compared("queue-1", slow, workspace, (9,))


def test_a_published_and_a_remembered_run_are_the_pack_they_were_made_from(here, tmp_path):
    made = {}
    for pack, more in (("p1", ()), ("p2", ("--publish",))):
        code, out, _ = here("run", "--pack", pack, "--seed", 42, "--json", "--cache-gb", 0, *more, workspace=tmp_path)
        made[pack] = json.loads(out)["run_id"]
        found = compared(made[pack], pack, Workspace(tmp_path))
        assert found.seeds == ((42,), (42,)) and not found.policies and not found.metrics and len(found.same) > 30
        assert not any(row.recomputed for row in found.states if row.before and row.after)
    code, out, _ = here("compare", made["p1"], made["p2"], "--json", workspace=tmp_path)
    said = json.loads(out)
    assert code == 0 and {row["policy"] for row in said["policies"]} == {"day_effect_policy_v1"} and said["metrics"]
    assert [side["kind"] for side in (said["before"], said["after"])] == ["run", "run"]


def test_gates_that_disagree_make_a_metric_mixed_and_an_equality_is_nearness(workspace, tmp_path):
    document = read_json(QUEUE / "gates.json")
    row = {"id": "some_wait", "metric": "q1/wait_p90", "severity": "gate", "comparison": ">=", "thresholds": {"B": 0.1}}
    exact = {"id": "eight", "metric": "q1/servers", "severity": "gate", "comparison": "==", "thresholds": {"B": 8}}
    document["gates"] += [{**row, "why": "Some wait."}, {**exact, "why": "Eight."}]
    gates = parse_gates(document, "gates")
    old, new = (find(str(pack_with(tmp_path / name, servers=count, service=1.2)), workspace, None)
                for name, count in (("few", 7), ("more", 9)))  # fmt: skip
    far = find(str(pack_with(tmp_path / "many", servers=12, service=1.2)), workspace, None)
    old, new, far = (replace(settled(one, one, (1,)), gates=gates) for one in (old, new, far))
    assert _judge(old, new)[0] is gates
    ways = {row.name: row.direction for row in compare(old, new).metrics}
    assert ways["q1/wait_p90"] == "mixed" and ways["q1/served_at_once"] == "better"
    assert ways["q1/servers"] == "neutral", "7 and 9 are as far from 8"
    assert {row.name: row.direction for row in compare(new, far).metrics}["q1/servers"] == "worse"


def test_the_page_is_one_file_that_says_the_same(here, workspace, tmp_path):
    page = tmp_path / "page.html"
    call = ("compare", "queue-1/0", "queue-1/5", "--html", page)
    code, out, err = here(*call, "--json", workspace=workspace.root)
    said = json.loads(out)
    assert code == 0 and err == "" and said["html"] == str(page)
    text = page.read_text()
    assert not re.search(r'(src|href)=["\']?(https?:)?//', text) and "<script" not in text
    for row in said["metrics"]:
        assert row["metric"] in text and row["direction"] in text
    for row in said["policies"]:
        assert row["pointer"] in text
    code, told, _ = here(*call, workspace=workspace.root)
    assert told.startswith("trial queue-1/0 → trial queue-1/5") and f"page   {page}" in told
    assert here(*call, "--quiet", workspace=workspace.root) == (0, "", "")


def test_what_cannot_be_compared_is_refused_in_one_line(here, workspace, tmp_path):
    place = {"workspace": workspace.root}
    page = tmp_path / "page.html"
    for a, b, *said in (
        ("p1", "queue-1/0", "engine segment_2b", "engine queue"),
        ("p1", "nothing", "nothing: no lock has this name", "nor is it a run"),
        ("queue-1/0", "queue-1/999", "queue-1/999: /number: 999 is not among the 24 trials"),
        ("queue-9/0", "queue-1/0", "no sweep queue-9", "known: queue-1"),
    ):
        refused(here("compare", a, b, "--html", page, **place), *said)
        assert not page.exists() and not list(tmp_path.glob(".*"))
    refused(here("compare", "p1", "p2", "--html", tmp_path, **place), "--html: is a folder")
    refused(here("compare", "p1", "p2", "--html", tmp_path / "no" / "page", **place), "does not exist")
    lock = tmp_path / "changed.json"
    lock.write_text(next(workspace.locks.glob("*.json")).read_text().replace('"decision": "GO"', '"decision": "NO_GO"'))
    refused(here("compare", lock, "queue-1/0", **place), "lock_id", code=3)
