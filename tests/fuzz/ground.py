"""The ground of all inputs: one workspace and one folder of a user's files, with a document of every kind."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from lanes import QUEUE
from worlds import tiny_world

from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.states import s5_roster
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_import import open_world, write_world
from lanelock.policies import Pack, load_pack
from lanelock.policies.documents import read_json, resolve
from lanelock.sweeps.campaign.plan import load_campaign
from lanelock.sweeps.campaign.play import play_campaign
from lanelock.sweeps.decision.decision import refusal
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.chosen import lock_trial
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.freezes import reopen
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.signatures import sign
from lanelock.sweeps.proof.unpack import unpack, unpacking
from lanelock.sweeps.record.refusals import record_refusal
from lanelock.sweeps.record.registered import Left, Written, write_left
from lanelock.sweeps.sweep import play
from lanelock.sweeps.trail import add_note
from lanelock.sweeps.workspace import Workspace

DAYS = ("2026-01-01", "2026-01-02")
REGISTRY = "http://registry.example"  # whose note the workspace holds; nobody calls there
ROUTING = "route_rng_policy_v1#/roster/arrivals_per_merchant_day"


@dataclass(frozen=True)
class Ground:
    """The folders that inputs are changed in."""

    root: Path

    @property
    def files(self) -> Path:
        """What a user wrote: packs, lanes, tables."""
        return self.root / "files"

    @cached_property
    def workspace(self) -> Workspace:
        return Workspace(self.root / "workspace", None)

    @cached_property
    def lock(self) -> Path:
        """The lock that the lane's decision took."""
        return next(path for path in sorted(self.workspace.locks.glob("queue-1.*.json")) if path.name.count(".") == 2)

    @cached_property
    def evidence(self) -> Path:
        return next(path for path in self.workspace.evidence.glob("queue-1.*") if path.suffix != ".dsse")

    @cached_property
    def run(self) -> Path:
        """A published run of segment 2B."""
        return next(path for path in sorted(self.workspace.runs.iterdir()) if path.is_dir())

    @cached_property
    def entry(self) -> Path:
        """A state in the cache."""
        return next(iter(sorted(self.workspace.cache.glob("[0-9a-f][0-9a-f]/*"))))

    @cached_property
    def campaign(self) -> Path:
        return next(self.workspace.campaigns.iterdir())

    @cached_property
    def box(self) -> Path:
        return next(self.workspace.outbox.glob("*.jsonl"))

    @cached_property
    def world(self) -> World:
        return tiny_world(virtual=[3])


def build(root: Path) -> Ground:
    """Makes the ground in a new folder: some ten seconds."""
    ground = Ground(root)
    workspace = Workspace.at(root / "workspace", None)
    _files(ground)
    _locks(ground, workspace)
    _records(ground, workspace)
    _run(ground, workspace)
    _tables(ground)
    return ground


def copied(ground: Ground, root: Path) -> Ground:
    shutil.copytree(ground.root, root, symlinks=True)
    return Ground(root)


def _files(ground: Ground) -> None:
    """Copies what a user writes by hand: the queue's pack, lanes, campaign and gates, and a pack of segment 2B."""
    shutil.copytree(QUEUE, ground.files / "queue", ignore=shutil.ignore_patterns("*.py", "*.dist-info", "__pycache__"))
    shutil.copytree(resolve("p3_recorded", "packs"), ground.files / "p3_recorded")
    shutil.copytree(resolve("p3", "lanes", ".json").parent, ground.files / "lanes")
    few = read_json(QUEUE / "lane.json")["knobs"]
    candidates = [{name: row["low"] for name, row in few.items()}, {name: row["high"] for name, row in few.items()}]
    (ground.files / "candidates.json").write_text(json.dumps(candidates))
    (ground.files / "candidates.csv").write_text("servers,service\n6,0.5\n20,2.0\n7,\n")
    (ground.files / "checkout").mkdir()
    (ground.files / "checkout" / "pyproject.toml").write_text('[project]\nname = "lanelock"\nversion = "1"\n')


def _locks(ground: Ground, workspace: Workspace) -> None:
    """Plays a lane; locks, certifies, signs and promotes what it found."""
    lane = load_lane(str(ground.files / "queue" / "lane.json")).with_search(trials=8)
    lock = play(lane, workspace, track=False).lock
    assert any(lock_trial("queue-1", number, "I like it", workspace).path for number in range(8))
    key = SigningKey.make(ground.files / "ada.pem")
    row = {"name": "ada", "public": key.public, "roles": ["maker", "approver"]}
    demand = {"roles": ["approver"], "signatures": 1, "maker_may_approve": True}
    trust = {"format": "lanelock.trust/1", "keys": [row], "aliases": {"authority": demand}}
    workspace.trust.write_text(json.dumps(trust))
    certified = certify_lock(lock, workspace, holdout=3)
    sign(lock, key)
    sign(certified.folder, key)
    for alias in ("candidate", "authority"):
        assert promote(lock, alias, workspace, key=key).written
    unpack(unpacking(Lock.read(lock), ground.files / "unpacked"), ground.files / "unpacked")


def _records(ground: Ground, workspace: Workspace) -> None:
    """Leaves a campaign with freeze, reopen and note, letters in the outbox with a mark, and a registry's note."""
    play_campaign(load_campaign(str(ground.files / "queue" / "campaign.json")), workspace, track=False)
    reopen("queue", workspace, "to be changed at will")
    add_note(workspace, "look at the nights")
    lane = load_lane(str(ground.files / "queue" / "lane_few.json"))
    reach = prospect(lane, None)
    refused = refusal(lane, reach)
    assert refused is not None
    record_refusal(lane, workspace, refused, reach, None)
    ground.box.with_suffix(".delivered").write_text(str(len(ground.box.read_bytes().splitlines(keepends=True)[0])))
    written = Written(Lock.read(ground.lock).lock_id, "0" * 64, "1" * 64, {"lanelock.lock": "x"})
    write_left(replace(workspace, tracking_uri=REGISTRY), REGISTRY, {"queue": Left({"candidate": "1"}, {"1": written})})


def _run(ground: Ground, workspace: Workspace) -> None:
    """Publishes a small run of segment 2B with its record, on a written world, and keeps one state in a cache."""
    for folder in ("world", "csv_world", "parquet_world"):
        (ground.files / folder).mkdir()
    write_world(ground.world, ground.files / "world")
    pack = policies().with_knobs({ROUTING: 2.0})
    engine = Segment2B()
    made = engine.evaluate(pack, 42, world=ground.files / "world")
    engine.publish(made, workspace.runs)
    states = [{"name": row.name, "key": row.key, "address": row.address, "reused": False} for row in made.states]
    workspace.remember(made.run_id, {"run_id": made.run_id, "engine": "segment_2b", "states": states})
    Segment2B().keeping(workspace.cache, 1 << 30).evaluate(pack, 42, world=ground.files / "world", until="S1")


def _tables(ground: Ground) -> None:
    """Writes the world's tables and a roster as a user would: CSV and Parquet, without receipts."""
    for name in ("site_locations", "site_timezones", "merchants"):
        table = pq.read_table(ground.files / "world" / f"{name}.parquet")
        pq.write_table(table, ground.files / "parquet_world" / f"{name}.parquet")
        pyarrow.csv.write_csv(table, ground.files / "csv_world" / f"{name}.csv")
    law = policies()["route_rng_policy_v1"]
    few = {**law, "roster": {**law["roster"], "arrivals_per_merchant_day": 3.0}}
    roster = s5_roster.roster(ground.world, DAYS, few, 7, "t").table().drop_columns(["occurrence", "created_utc"])
    roster = roster.cast(pa.schema([(field.name, _plain(field.type)) for field in roster.schema]))
    pq.write_table(roster, ground.files / "roster.parquet")
    moments = np.datetime_as_string(roster["utc_timestamp"].to_numpy(), timezone="UTC")
    pyarrow.csv.write_csv(roster.set_column(0, "utc_timestamp", pa.array(moments)), ground.files / "roster.csv")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


@cache
def policies() -> Pack:
    """Returns the shipped pack that tables are read under."""
    return load_pack("p3_recorded", SEGMENT_2B.policy_schemas)


def world_in(folder: Path) -> World:
    """Returns the world in a folder of tables."""
    return open_world(folder, policies()["world_v1"])
