"""Mutants by the thousand of locks, evidence, moves and studies, raw and with every digest made good again.

Each is refused in one line, or a check fails, or what it changed is what the answer lists as not proved.
"""

import json
import math
import random
import re
import shutil
from contextlib import suppress
from dataclasses import replace

import optuna
import pytest
from lanes import QUEUE, TESTS, lane_with, seal
from mutants import damaged, differences, mutated

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError, PolicyError, WorkspaceError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.audit import audit
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import survey
from lanelock.sweeps.lanes.trial import RECORD, Trial, TrialRecord
from lanelock.sweeps.proof.chosen import lock_trial
from lanelock.sweeps.proof.evidence import certify_lock, verify_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import moves
from lanelock.sweeps.proof.promotion import promote
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.search.study import Studies, _open
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.search.transcript import link, origin_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.trial import evaluate
from lanelock.sweeps.workspace import Workspace

ALL = 10_000
FEW_SERVERS = {
    "id": "few", "metric": "q1/servers", "severity": "gate", "comparison": "<=", "thresholds": {"B": 5}, "why": "Cost.",
}  # fmt: skip
# Of a lock: what changed, and the beginning of the line that lists it as not proved; with the study, and without.
NOT_PROVED = (
    ("/made_by/", "made by "),
    ("/code_version", "made by engine code "),
    ("/lane/budget/", "the budget of its lane, and what its packs are called"),
    ("/lane/$schema", "the budget of its lane"),
    ("/pack/name", "the budget of its lane, and what its packs are called"),
    ("/authority/name", "the budget of its lane, and what its packs are called"),
)
BY_THE_STUDY = ("/lane", "/search/", "/sweep", "/trial", "/gates", "/knobs", "/chosen_by_hand", "/seeds")
SIGNED_BY_NOBODY = (
    r"/(at|who|why|forced|to/(sweep|engine|pack|verdict|evidence|lock_id))|/(kind|alias|held|format|approvals).*"
)


def counts(share):
    """Returns the numbers of mutants of a kind: a few by default, its share of ten thousand where time is no matter."""
    return pytest.mark.parametrize("count", [int(share * 300), pytest.param(int(share * ALL), marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with locks of every kind, evidence of the first, and two moves; and the locks."""
    place = Workspace.at(tmp_path_factory.mktemp("mutants"))
    lanes = {"queue": {}, "few": {"gates__rails": [FEW_SERVERS]}, "fresh": {"decision__confirm_seeds": 2}}
    locks = [
        play(lane_with(place.root, id=name, **changed).with_search(trials=8), place, track=False).lock
        for name, changed in lanes.items()
    ]
    chosen = (lock_trial("queue-1", number, "I like it", place).path for number in (1, 2, 3, 4))
    locks.append(next(path for path in chosen if path is not None))
    with pytest.MonkeyPatch.context() as patch:  # of an engine that publishes runs, which its lock states
        patch.syspath_prepend(TESTS / "tides_engine")
        tides = load_lane(str(TESTS / "tides_engine" / "lane.json")).with_search(trials=3)
    locks.append(play(tides, place, track=False).lock)
    certify_lock(locks[0], place, holdout=3)
    for alias in ("candidate", "authority"):
        assert promote(locks[0], alias, place).written
    return place, locks


def changed_file(path, chance, remade=lambda document: document):
    """Changes one thing in a JSON file: its content, by `remade` with digests made good, or its bytes."""
    document = read_json(path)
    if chance.random() < 0.15:
        path.write_bytes(damaged(document, chance))
        return
    document = mutated(document, chance)
    with suppress(PolicyError, AttributeError):  # what has no canonical form has no digest
        document = remade(document) if chance.random() < 0.9 else document
    path.write_bytes(json.dumps(document).encode())


def with_its_id(document):
    return {**document, "lock_id": digest({name: row for name, row in document.items() if name != "lock_id"})}


def addresses(before, path):
    return [address for address in differences(before, read_json(path)) if address != "/lock_id"]


def one_line(error):
    assert "\n" not in str(error) and str(error)


@counts(0.4)
def test_a_mutated_lock_states_nothing_that_is_neither_proved_nor_listed(made, tmp_path, count):
    place, locks = made
    path, chance, elsewhere = tmp_path / "lock.json", random.Random(count), Workspace.at(tmp_path / "elsewhere")
    for lock in locks:
        assert verify_lock(lock, workspace=place).ok
    for _ in range(count):
        source, workspace = chance.choice(locks), chance.choice([place, elsewhere])
        shutil.copyfile(source, path)
        changed_file(path, chance, with_its_id)
        try:
            found = verify_lock(path, workspace=workspace)
        except (IntegrityError, PolicyError) as error:
            one_line(error)
            continue
        for address in addresses(read_json(source), path) if found.ok else ():
            begins = next((line for name, line in NOT_PROVED if address.startswith(name)), None)
            unproved = begins is not None and any(row.startswith(begins) for row in found.not_proved)
            without = address.startswith(BY_THE_STUDY) and any(
                row.endswith(("(no transcript here)", "(the sweep of that name here is another)"))
                for row in found.not_proved
            )
            assert unproved or without, (address, read_json(path), found.not_proved)


@counts(0.3)
def test_a_mutated_pack_of_evidence_states_nothing_that_is_not_proved(made, tmp_path, count):
    place, _ = made
    (whole,) = place.evidence.iterdir()
    chance, folder = random.Random(count), tmp_path / "pack"
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for _ in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        path = folder / chance.choice(names)
        if path.suffix == ".json":
            changed_file(path, chance, lambda document: with_its_id(document) if "lane" in document else document)
        else:
            content = bytearray(path.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
        if path.name not in ("index.json", "_passed.flag") and chance.random() < 0.9:
            seal(folder)
        found = verify_evidence(folder, jobs=1)
        same = all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names)
        by_maker = path.name == "made_by.json" and found.not_proved and found.not_proved[0].startswith("made by ")
        assert not found.ok or same or by_maker, path


@counts(0.2)
def test_a_mutated_move_says_nothing_else_but_what_a_signature_would_hold(made, tmp_path, count):
    place = Workspace.at(tmp_path)
    shutil.copytree(made[0].promotions, place.promotions)
    first, second, head = sorted(place.promotions.glob("*.json"))
    files, chance = {path: path.read_bytes() for path in (first, second, head)}, random.Random(count)
    for _ in range(count):
        path = chance.choice([*files])
        changed_file(path, chance)
        with suppress(PolicyError, KeyError, TypeError):  # a forger makes good what follows, where it is JSON at all
            if path == first:
                second.write_text(text_of({**read_json(second), "before": file_digest(first)}))
            if path != head:
                head.write_text(text_of({**read_json(head), "newest": file_digest(second)}))
        try:
            moves(place)
        except IntegrityError as error:
            one_line(error)
        else:
            changes = [*differences(json.loads(files[path]), read_json(path))]
            assert all(re.fullmatch(SIGNED_BY_NOBODY, address) for address in changes), (path, changes)
            assert not changes or all(move.signed_by is None for move in moves(place))
        for file, content in files.items():
            file.write_bytes(content)


@counts(0.05)
def test_a_mutated_tally_or_journal_ends_in_one_line(made, tmp_path, count):
    """Byte for byte: whatever reads a study says what is wrong, or finds it whole."""
    place = Workspace.at(tmp_path)
    shutil.copytree(made[0].root / "sweeps", place.root / "sweeps")
    shutil.copyfile(made[0].journal, place.journal)
    tally, chance = place.root / "sweeps" / "queue-1.json", random.Random(count)
    files = {path: path.read_bytes() for path in (tally, place.journal)}
    whole = audit("queue-1", made[0], 1.0).findings
    for _ in range(count):
        if chance.random() < 0.3:
            changed_file(tally, chance)
        else:
            lines = files[place.journal].splitlines()
            at = chance.randrange(len(lines))
            row = json.loads(lines[at])
            lines[at] = json.dumps(mutated(row, chance)).encode() if chance.random() < 0.8 else damaged(row, chance)
            place.journal.write_bytes(b"\n".join(lines) + b"\n")
        try:
            sweeps_in(place)
            found = audit("queue-1", place, 0.01).findings
            assert not found.ok or len(found) <= len(whole)
        except (IntegrityError, PolicyError, WorkspaceError) as error:
            one_line(error)
        for path, content in files.items():
            path.write_bytes(content)


# A study that was written anew, with our source: every head follows, and the tally and the lock state the new ones.


def near(number, chance):
    return chance.choice([number + 1, math.nextafter(number, math.inf), -number - 1])


def measurement(rows, at, chance):
    frozen, record = rows[at]
    seed = chance.choice([*record.measures])
    metric = chance.choice([*record.measures[seed]])
    changed = {**record.measures[seed], metric: near(record.measures[seed][metric], chance)}
    rows[at] = frozen, replace(record, measures={**record.measures, seed: changed})


def objective(rows, at, chance):
    rows[at][0].values = [near(value, chance) for value in rows[at][0].values]


def constraint(rows, at, chance):
    attributes = rows[at][0].system_attrs
    name = chance.choice([name for name in attributes if name.startswith("constraints")])
    attributes[name] = near(attributes[name], chance)


def unproposed(rows, at, chance):
    """A trial that was truly run, of a candidate that no sampler proposed: all it states is what it gives."""
    frozen, record = rows[at]
    ground = survey(load_lane(str(QUEUE / "lane.json")), None)
    values = {**frozen.params, "service": 1.25}
    outcome = evaluate(ground, values, ground.lane.seeds)
    frozen.params, frozen.values = values, list(outcome.objectives)
    frozen.system_attrs |= {f"constraints:{name}": value for name, value in outcome.constraints.items()}
    rows[at] = frozen, replace(outcome.record, asked_at=record.asked_at, repeats=record.repeats)


def knob(rows, at, chance):
    frozen = rows[at][0]
    others = [row.params["service"] for row, _ in rows if row.params["service"] != frozen.params["service"]]
    frozen.params = {**frozen.params, "service": chance.choice(others)}


def statement(**fields):
    def change(rows, at, chance):
        rows[at] = rows[at][0], replace(rows[at][1], **fields)

    return change


def fewer_seeds(rows, at, chance):
    record = rows[at][1]
    seeds = [*record.measures][:-1]
    cut = {part: {seed: getattr(record, part)[seed] for seed in seeds} for part in ("measures", "worlds")}
    rows[at] = rows[at][0], replace(record, **cut)


def dropped(rows, at, chance):
    """One before the last: without its last trial a search is shorter, and true where lock and tally say so."""
    del rows[min(at, len(rows) - 2)]


def reordered(rows, at, chance):
    other = chance.choice([place for place in range(len(rows)) if place != at])
    rows[at], rows[other] = rows[other], rows[at]


def doubled(rows, at, chance):
    rows.insert(at, rows[at])


CHANGES = {
    "a measurement": measurement, "an objective": objective, "a constraint": constraint,
    "a knob": knob, "a true trial that nobody proposed": unproposed, "seeds left out": fewer_seeds,
    "a trial dropped": dropped, "a pair exchanged": reordered, "a trial twice": doubled,
    "another pack": statement(pack="0" * 64), "another policy": statement(policies={"queue_policy_v1": "0" * 64}),
    "another world": statement(worlds={1: "0" * 64, 2: "0" * 64, 3: "0" * 64}), "more repeats": statement(repeats=3),
    "stopped": statement(stopped="seed 2: behind"), "failed": statement(failure="it broke"),
    "taken from elsewhere": statement(source="earlier-1/3"),
}  # fmt: skip


def retold(made, place, change, begun=lambda attributes: attributes):
    """Writes the study of `queue-1` anew into `place` with tally and lock to it, as changed. Returns the lock."""
    here = Studies(made[0].study_storage)._load("queue-1")
    shutil.rmtree(place.root, ignore_errors=True)
    place.root.mkdir(parents=True)
    there = _open(place.study_storage, reading=False, study=0)
    study = optuna.create_study(storage=there, study_name="queue-1", directions=here.directions)
    attributes = begun(here.user_attrs)
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    rows = [(row, TrialRecord.of(row.user_attrs[RECORD])) for row in here.get_trials()]
    change(rows)
    head = origin = origin_of(attributes)
    for number, (frozen, record) in enumerate(rows):
        objectives = tuple(frozen.values) if frozen.values else None
        trial = Trial(number, frozen.params, objectives, frozen.constraints, record)
        head = link(head, trial, frozen.system_attrs)
        frozen.set_user_attr(RECORD, replace(record, chain=head).document)
        study.add_trial(frozen)
    tally = read_json(made[0].root / "sweeps" / "queue-1.json")
    place.tallies.mkdir(parents=True, exist_ok=True)
    (place.tallies / "queue-1.json").write_text(json.dumps({**tally, "trials": len(rows), "head": head}))
    document = read_json(made[1][0])
    document["search"] |= {"origin": origin, "trials": len(rows), "head": head}
    path = place.root / "lock.json"
    path.write_text(json.dumps(with_its_id(document)))
    return Lock.read(path)


def failures(made, place, change, share=1.0, **begun):
    """Returns what an audit finds in a study that was written anew, with its lock; an error is a find."""
    lock = retold(made, place, change, **begun)
    try:
        return [check.name for check in audit("queue-1", place, share, lock).findings if not check.ok]
    except (IntegrityError, PolicyError) as error:
        one_line(error)
        return [str(error)]


def test_a_study_written_anew_without_a_change_is_the_same(made, tmp_path):
    place = Workspace.at(tmp_path / "anew")
    assert failures(made, place, lambda rows: None) == []
    clocks = statement(seconds={"engine": 1.0, "scoring": 2.0}, at_ms=1)
    assert failures(made, place, lambda rows: clocks(rows, 2, None)) == [], "clocks are no part of a transcript"


@pytest.mark.parametrize("kind", CHANGES)
def test_every_kind_of_change_in_any_trial_is_found_by_an_audit_of_all(made, tmp_path, kind):
    chance, place = random.Random(kind), Workspace.at(tmp_path / "anew")
    for at in chance.sample(range(8), 2):
        assert failures(made, place, lambda rows, at=at: CHANGES[kind](rows, at, chance)), (kind, at)


@counts(0.05)
def test_changes_of_a_study_by_chance_are_found_by_an_audit_of_all(made, tmp_path, count):
    chance, place = random.Random(count), Workspace.at(tmp_path / "anew")
    for _ in range(count):
        kind, at = chance.choice([*CHANGES]), chance.randrange(8)
        assert failures(made, place, lambda rows, kind=kind, at=at: CHANGES[kind](rows, at, chance)), (kind, at)


BEGINNINGS = {
    "reach": lambda begun: {**begun, "reach": [{**row, "bound": 1.0} for row in begun["reach"]]},
    "no reach": lambda begun: {**begun, "reach": []},
    "lane": lambda begun: {**begun, "lane": {**begun["lane"], "title": "Another"}},
    "gates": lambda begun: {**begun, "gates": {**begun["gates"], "title": "Another"}},
    "trials of another sweep": lambda begun: {**begun, "from": "few-1", "taken": 2},
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_a_beginning_that_was_changed_is_found(made, tmp_path, kind):
    place = Workspace.at(tmp_path / "anew")
    assert failures(made, place, lambda rows: None, begun=BEGINNINGS[kind])


def test_a_sample_finds_what_it_samples_and_every_audit_what_does_not_follow(made, tmp_path):
    place = Workspace.at(tmp_path / "anew")

    def change(rows):
        measurement(rows, 5, random.Random(1))

    lock = retold(made, place, change)
    for _ in range(6):
        done = audit("queue-1", place, 0.3, lock)
        failing = [check.name for check in done.findings if not check.ok]
        assert ("trial 5: run again" in failing) == (5 in done.sampled)
        assert any(name.startswith("trial 5: ") for name in failing), "its objectives do not follow"


def test_a_study_that_was_cut_is_resumed_only_where_nothing_states_more(made, tmp_path):
    place = Workspace.at(tmp_path / "anew")
    retold(made, place, lambda rows: rows.__delitem__(slice(-2, None)))
    lane = lane_with(tmp_path, id="queue").with_search(trials=9)
    place.locks.mkdir()
    shutil.copy(made[1][0], place.locks)
    with pytest.raises(IntegrityError, match=r"its transcript after 8 trials is not the one that .* states"):
        play(lane, place, track=False, resume=True)
    shutil.rmtree(place.locks)
    shutil.copy(made[0].tallies / "queue-1.json", place.tallies)
    with pytest.raises(IntegrityError, match="it holds 6 trials, 8 had finished"):
        play(lane, place, track=False, resume=True)
