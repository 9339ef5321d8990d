"""What `run --publish --layout record` writes, opened by readers that were written from the record's layout alone."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from record_readers import Tree, datasets, floor_shares, p0_scores, p1_scores, p2_scores, p3_scores, read_all

from lanelock.engine.segment_2b.run import ROUTING, SEGMENT_2B
from lanelock.policies import load_pack
from lanelock.policies.documents import ROOT

CERTIFIED = ROOT / "segment_2b" / "locks" / "segment_2b_certified.json"


def laid_out(here, pack, folder: Path) -> tuple[Tree, Path]:
    """Runs a pack by the command. Returns the tree in the record's form, and the folder of the published run.

    What the record's scorers read off the tree is what the run itself is graded by.
    """
    command = ("run", "--pack", pack, "--seed", 42, "--publish", "--layout", "record", "--score", "--json")
    code, out, err = here(*command, workspace=folder)
    assert code in (0, 1), err
    answer = json.loads(out)
    run_id = answer["run_id"]
    (root,) = folder.glob(f"exports/{run_id}.record")
    (published,) = folder.glob(f"runs/{run_id}")
    receipt = json.loads((published / "run_receipt.json").read_text())
    names = ("seed", "manifest_fingerprint", "parameter_hash", "run_id")
    tree = Tree(root, **{name: receipt[name] for name in names})
    scores = {**p1_scores(tree), **p2_scores(tree), **p3_scores(tree)}
    shared = scores.keys() & answer["metrics"].keys()
    assert len(shared) == 12 and all(
        scores[name] == pytest.approx(answer["metrics"][name], abs=1e-9) for name in shared
    )
    return tree, published


def smoke(here, name: str, folder: Path) -> str:
    """Returns the folder of a shipped pack with a smoke roster."""
    pack = load_pack(name, SEGMENT_2B.policy_schemas).with_knobs({f"{ROUTING}#/roster/mode": "smoke"})
    (folder / "pack").mkdir()
    for policy, document in {"pack": {"engine": "segment_2b"}, **pack.documents()}.items():
        (folder / "pack" / f"{policy}.json").write_text(json.dumps(document))
    return str(folder / "pack")


@pytest.fixture
def opened(here, tmp_path):
    """Returns the tree of a shipped pack with a smoke roster, with every file of it read."""

    def of(name):
        tree, published = laid_out(here, smoke(here, name, tmp_path), tmp_path)
        read_all(tree)
        return tree, published

    return of


def test_the_baseline_is_read_and_scored_as_recorded(opened):
    tree, _ = opened("baseline")
    assert p0_scores(tree) == {"arrivals": 1238, "days": 1, "merchants": 1238, "repeated": False}
    scores, sites = p3_scores(tree), p1_scores(tree)
    assert scores["bundle"] == "PASS" and sites["s1/residual"] == sites["s1/gap"] == 0.0
    assert scores["s4/tail_share"] >= floor_shares(tree)["single_group_share"]
    (tree.place(datasets.BUNDLE.path) / "_passed.flag").unlink()
    assert p3_scores(tree)["bundle"] == "FAIL"


def test_p1_is_read_and_scored_as_recorded(opened):
    tree, published = opened("p1")
    assert p1_scores(tree)["s1/gap"] == pytest.approx(0.171117, abs=5e-7)
    assert p2_scores(tree)["passes"] and p2_scores(tree)["sources"] == ["scalar_sigma_v1"]
    same_rows(tree, published)


def same_rows(tree: Tree, published: Path) -> None:
    """Asserts that the JSON Lines of the record's form hold the rows of our own Parquet logs."""
    for name, dataset, columns in (
        ("s5_arrival_roster", datasets.ROSTER, ("merchant_id", "utc_day", "is_virtual")),
        ("s5_selection_log", datasets.SELECTIONS, ("merchant_id", "utc_day", "tz_group_id", "site_id", "ctr_group_lo")),
        ("s6_edge_log", datasets.EDGES, ("merchant_id", "utc_day", "edge_id", "edge_lat", "ctr_edge_lo")),
    ):
        theirs = tree.table(dataset)
        files = sorted((published / "data/layer1/2B" / name).rglob("*.parquet"))
        ours = [pq.read_table(file, columns=list(columns), partitioning=None) for file in files]
        for column in columns:
            assert theirs[column].to_pylist() == [value for part in ours for value in part[column].to_pylist()], column


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["p2", "p3_recorded", str(CERTIFIED)])
def test_whole_runs_are_read(here, tmp_path, pack):
    """With every arrival of ninety days: a few gigabytes of JSON Lines."""
    tree, _ = laid_out(here, pack, tmp_path)
    read_all(tree)
    assert p3_scores(tree)["bundle"] == "PASS" and p0_scores(tree)["repeated"]
    if pack == "p3_recorded":
        scores = p3_scores(tree)
        assert scores["s4/max_p_median"] == pytest.approx(0.78, abs=5e-7)
        assert scores["s4/tail_share"] == pytest.approx(0.483037, abs=5e-7)
        assert scores["s4/entropy_p50"] == pytest.approx(0.526908, abs=5e-7)
