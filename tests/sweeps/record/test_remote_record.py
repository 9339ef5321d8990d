"""A record on a server that comes and goes: real processes killed with -9, a real PostgreSQL restarted.

What is shown by counting: as many trials in the record as in the study, each once, in order.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import mlflow
import psycopg
import pytest
from conftest import child_environment
from lanes import TESTS
from servers import MlflowServer, Postgres, Wire, missing

from lanelock.policies import WorkspaceError
from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.record.comparison import compare
from lanelock.sweeps.record.delivery import sync
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

QUEUE = TESTS / "queue_engine" / "lane.json"
pytestmark = [pytest.mark.postgres, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as database:
        yield database


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    with MlflowServer(postgres.url("mlflow"), tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def workspace(tmp_path, postgres, server, monkeypatch):
    """A workspace whose record and study are both remote."""
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)  # for the commands' own processes
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", postgres.url("optuna"))
    return Workspace.at(tmp_path / "ws", server.url)


def lane(trials):
    return load_lane(str(QUEUE)).with_search(trials=trials, sampler="random")


def recorded(server, closed):
    """The sweep's own run and its trials' runs, asked of the server."""
    client = mlflow.MlflowClient(tracking_uri=server.url)
    experiments = [client.get_experiment_by_name(closed.ground.lane.id).experiment_id]
    parents = client.search_runs(
        experiments, f"tags.`lanelock.sweep` = '{closed.sweep}' and tags.`lanelock.kind` = 'sweep'"
    )
    assert len(parents) == 1
    children = client.search_runs(
        experiments, f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'", max_results=5000
    )
    return parents[0], sorted(children, key=lambda run: int(run.data.tags["lanelock.trial"]))


def hold_to_study(server, closed, workspace):
    """Every trial the study holds is in the record once, whole, with its numbers; and nothing waits."""
    parent, children = recorded(server, closed)
    study = Studies(workspace.study_storage).open(closed.sweep, closed.ground.lane)
    held = study.history + list(study._ahead.values())
    assert [told.number for told in held] == list(range(len(closed.trials)))
    assert [int(run.data.tags["lanelock.trial"]) for run in children] == list(range(len(held)))
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    for told, run in zip(held, children, strict=True):
        assert run.data.tags["lanelock.pack"] == told.record.pack and set(run.data.params) == set(told.values)
        by_seed = {name: value for name, value in run.data.metrics.items() if name.startswith("seed_")}
        stated = {
            f"seed_{seed}/{name}": value
            for seed, measures in told.record.measures.items()
            for name, value in measures.items()
        }
        assert by_seed and by_seed.items() <= stated.items()
    assert parent.data.tags["lanelock.lock"] == Lock.read(closed.lock).lock_id
    assert Outbox(workspace).boxes() == ()
    return parent, children


def at(**actions):
    """A watcher that does something once a number of trials is told: at(t8=server.kill)."""
    waiting = {int(when[1:]): action for when, action in actions.items()}

    def watch(progress):
        for when in [when for when in waiting if progress.done >= when]:
            waiting.pop(when)()

    return watch


def test_a_record_and_a_study_on_postgresql_hold_the_same(workspace, server, lanelock):
    closed = play(lane(16), workspace, jobs=2)
    parent, children = hold_to_study(server, closed, workspace)
    for run in (parent, children[closed.decision.best.number]):
        assert run.data.tags["lanelock.lock"] == Lock.read(closed.lock).lock_id
    compared = compare(workspace)
    assert (compared.differences, compared.trials) == ((), 16), "field by field, and no number lost a digit"
    client = mlflow.MlflowClient(tracking_uri=server.url)
    assert parent.info.artifact_uri.startswith("mlflow-artifacts:"), "the server keeps the artifacts"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {
        "lane.json",
        "lock.json",
        "sensitivity.json",
    }
    best = children[closed.decision.best.number].info.run_id
    assert {file.path for file in client.list_artifacts(best)} >= {"pack.json", "scorecard.json"}
    assert not workspace.journal.exists() and not workspace.tracking_database.exists()
    for command in (("report", closed.sweep), ("compare", f"{closed.sweep}/0", f"{closed.sweep}/1"), ("status",)):
        code, said, err = lanelock(*command, "--json", workspace=workspace.root)
        assert code in (0, 1) and said, err
    assert {"name": closed.sweep, "trials": 16}.items() <= said["sweeps"][-1].items()


def test_killed_in_mid_sweep_and_its_database_restarted_it_lacks_and_doubles_nothing(workspace, server, postgres):
    def restart():
        postgres.stop()
        postgres.start()

    closed = play(lane(80), workspace, watch=at(t12=server.kill, t24=restart, t48=server.start))
    hold_to_study(server, closed, workspace)
    assert closed.parent_run is not None, "it was back before the sweep closed"


@pytest.mark.slow
def test_away_from_begin_to_end_the_letters_wait_for_sync(workspace, server, lanelock):
    server.kill()
    closed = play(lane(12), workspace)
    waiting = sum(box.waits() for box in Outbox(workspace).boxes())
    assert waiting > 12
    code, said, _ = lanelock("sync", "--json", workspace=workspace.root)
    assert code == 1 and said["delivered"] == 0 and said["waiting"] == waiting and "does not answer" in said["away"]
    server.start()
    code, said, _ = lanelock("sync", "--json", workspace=workspace.root)
    assert (code, said["delivered"], said["waiting"], said["doubled"]) == (0, waiting, 0, 0)
    hold_to_study(server, closed, workspace)
    assert lanelock("sync", "--json", workspace=workspace.root)[1]["delivered"] == 0


@pytest.mark.slow
def test_the_next_sweep_delivers_what_the_one_before_left(workspace, server):
    before = play(lane(40), workspace, watch=at(t20=server.kill))
    assert Outbox(workspace).boxes() != ()
    server.start()
    after = play(lane(8), workspace)
    assert after.sweep != before.sweep
    for closed in (before, after):
        hold_to_study(server, closed, workspace)


@pytest.mark.slow
def test_killed_and_resumed_while_the_record_is_away(workspace, server, tmp_path):
    begun = begin(workspace, "--trials", "400", "--sampler", "random")
    until_told(begun, workspace, 8)
    server.kill()
    until_told(begun, workspace, 40)
    begun.kill()
    begun.communicate()
    count = told(workspace)
    closed = play(lane(count + 8), workspace, resume=True)
    assert len(closed.trials) == count + 8
    server.start()
    assert not sync(workspace, server.url).waiting
    hold_to_study(server, closed, workspace)


@pytest.mark.slow
def test_a_request_that_was_executed_and_not_answered_is_not_repeated(workspace, server):
    written = Counter()

    def lose_some_of_each_kind(method, path, nth):
        kind = path.partition("mlflow/")[2] if method == "POST" else method
        written[kind] += 1
        return "lose" if written[kind] in (1, 3, 8) and not kind.endswith(("search", "GET")) else None

    with Wire(server.url) as wire:
        wire.fault = lambda method, path, nth: "cut"
        closed = play(lane(24), replace(workspace, tracking_uri=wire.url))
        wire.fault = lose_some_of_each_kind
        tries = 1
        while (done := sync(workspace, wire.url)).away:
            tries += 1
        assert not done.waiting and done.doubled == 0
    assert tries > 8 and set(written) >= {"runs/create", "runs/log-batch", "runs/update"}
    hold_to_study(server, closed, workspace)


@pytest.mark.slow
def test_a_delivery_killed_between_a_run_and_its_numbers_doubles_nothing(workspace, server, monkeypatch):
    with Wire(server.url) as wire:
        wire.fault = lambda method, path, nth: "cut"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wire.url)
        closed = play(lane(8), replace(workspace, tracking_uri=wire.url))
        for _ in range(4):
            batches = []
            delivery = begin_sync(workspace)

            def kill_at_second_batch(method, path, nth, batches=batches, delivery=delivery):
                if path.endswith("log-batch"):
                    batches.append(path)
                if len(batches) == 2:
                    delivery.kill()
                    return "cut"
                return None

            wire.fault = kill_at_second_batch
            delivery.wait()
            assert delivery.returncode == -9
        wire.fault = lambda method, path, nth: None
        assert not sync(workspace, wire.url).waiting
    hold_to_study(server, closed, workspace)


def test_what_the_server_refuses_is_an_error_and_not_an_absence(workspace, server):
    with Wire(server.url) as wire:
        workspace = replace(workspace, tracking_uri=wire.url)
        wire.fault = lambda method, path, nth: 403
        with pytest.raises(WorkspaceError, match="403"):
            play(lane(8), workspace)
        wire.fault = lambda method, path, nth: 403 if path.endswith("runs/create") else None
        closed = play(lane(8), workspace)
        (box,) = Outbox(workspace).boxes()
        assert "403" in box.notes().reason and box.waits() > 8, "once it has begun, the sweep goes on"
        wire.fault = lambda method, path, nth: None
        assert not sync(workspace, wire.url).waiting
    hold_to_study(server, closed, workspace)


@pytest.mark.slow
def test_an_absence_does_not_slow_the_search(workspace):
    with Wire("http://127.0.0.1:9") as wire:
        wire.fault = lambda method, path, nth: time.sleep(2) or "cut"  # neither refuses nor answers
        closed = play(lane(40), replace(workspace, tracking_uri=wire.url))
    off = play(lane(40), workspace, track=False)
    assert closed.seconds["search"] < off.seconds["search"] + 8, "one look at the beginning, one at the end"


def test_mlflow_and_the_study_need_tables_of_their_own(workspace, server, postgres, monkeypatch, lanelock):
    play(lane(4), workspace)
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", postgres.url("mlflow"))
    with pytest.raises(WorkspaceError, match="database or a schema of its own") as refused:
        play(lane(4), workspace)
    assert "hidden" not in str(refused.value)
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", postgres.url("optuna"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.url("optuna"))
    code, _, _ = lanelock("sync", workspace=workspace.root)
    assert code == 0, "nothing waits, so nothing is opened"
    with pytest.raises(WorkspaceError, match="Optuna's"):
        play(lane(4), replace(workspace, tracking_uri=postgres.url("optuna")))


def test_one_database_with_two_schemas_serves_both(postgres, tmp_path, monkeypatch):
    address = postgres.url("both")
    with psycopg.connect(address, autocommit=True) as session:
        session.execute("create schema study")
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", f"{address}?options=-csearch_path%3Dstudy")
    workspace = Workspace.at(tmp_path / "ws", address)  # the tracking database itself, without a server
    closed = play(lane(8), workspace)
    client = mlflow.MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name(closed.ground.lane.id)
    assert len(client.search_runs([experiment.experiment_id])) == 9
    assert experiment.artifact_location == (workspace.artifacts / closed.ground.lane.id).as_uri()


def test_the_study_waits_for_its_database(workspace, postgres):
    def restart():
        postgres.stop()
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"]).wait()
        postgres.start()

    closed = play(lane(24), workspace, track=False, watch=at(t8=restart))
    assert len(closed.trials) == 24
    assert told(workspace) == 24


def test_two_workspaces_cannot_tell_the_same_study(workspace, tmp_path):
    first = play(lane(8), workspace, track=False)
    other = Workspace.at(tmp_path / "other")

    def meddle():
        play(lane(16), other, resume=True, track=False)

    with pytest.raises(Exception, match="was stored by another process"):
        play(lane(24), workspace, resume=True, track=False, watch=at(t12=meddle))
    assert told(workspace, first.sweep) == 16


def test_sweeps_of_one_name_in_two_workspaces_are_two(server, tmp_path):
    document = {**read_json(QUEUE), "id": "twins", "authority": str(QUEUE.parent / "pack")}
    (tmp_path / "lane.json").write_text(json.dumps(document))
    held = load_lane(str(tmp_path / "lane.json")).with_search(trials=4)
    places = [Workspace.at(tmp_path / name, server.url) for name in ("one", "two")]
    for place in places:
        assert play(held, place).sweep == "twins-1"
    assert [compare(place).differences for place in places] == [(), ()]
    client = mlflow.MlflowClient(tracking_uri=server.url)
    runs = client.search_runs([client.get_experiment_by_name("twins").experiment_id])
    assert len(runs) == 10 and len({run.data.tags.get("lanelock.study") for run in runs}) == 3


@pytest.mark.slow
def test_a_minute_away_in_a_sweep_of_segment_2b(workspace, server, postgres):
    told_at, last, failures = {}, [0], []

    def disturb():
        try:
            for pause, action in ((25, server.kill), (25, postgres.stop), (2, postgres.start), (33, server.start)):
                time.sleep(pause)
                told_at[action.__qualname__] = last[0]
                action()
        except BaseException as error:
            failures.append(error)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    lane = load_lane("p3").with_search(trials=5000, seconds=140.0)
    closed = play(lane, workspace, watch=lambda progress: last.__setitem__(0, progress.done))
    disturbing.join()
    assert not failures
    away = told_at["MlflowServer.start"] - told_at["MlflowServer.kill"]
    assert away > 20, "it went on while the server was away"
    _, children = hold_to_study(server, closed, workspace)
    print(f"{len(children)} trials, {away} of them told in the minute that the server was away: {told_at}")


def begin(workspace, *arguments):
    command = [
        sys.executable,
        "-m",
        "lanelock",
        "sweep",
        str(QUEUE),
        *arguments,
    ]
    return subprocess.Popen(
        [*command, "--workspace", str(workspace.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
    )


def begin_sync(workspace):
    command = [sys.executable, "-m", "lanelock", "sync", "--json"]
    return subprocess.Popen(
        [*command, "--workspace", str(workspace.root)], stdout=subprocess.DEVNULL, env=child_environment()
    )


def told(workspace, name=None):
    """Trials in the database, of a sweep or of the newest."""
    which = "select study_id from studies where study_name = %s" if name else "select max(study_id) from studies"
    with psycopg.connect(workspace.study_storage) as session:
        return session.execute(
            f"select count(*) from trials where study_id = ({which})", [name] * bool(name)
        ).fetchone()[0]


def until_told(process, workspace, count):
    while process.poll() is None and told(workspace) < count:
        time.sleep(0.02)
