"""The gate of a repository: attacks on it are refused, each by its own rule, and an honest change passes."""

import json
import os
import random
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, forged
from lanes import QUEUE, refused
from mutants import mutated

from lanelock.policies import PolicyError, WorkspaceError
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.checks import Findings
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.signatures import beside, sign
from lanelock.sweeps.proof.unpack import unpack, unpacking
from lanelock.sweeps.repository.gate import gate
from lanelock.sweeps.repository.report import markdown
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal.commands.gate import gate as gate_command
from lanelock.sweeps.workspace import Workspace

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}  # this machine's settings aside


def git(root, *arguments):
    subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, env={**os.environ, **WHO, **ALONE}
    )  # fmt: skip


def commit(root, branch=None):
    if branch is not None:
        git(root, "checkout", "-q", "-b", branch)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x", "--allow-empty")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository on its branch `main`, and the workspace of its sweep, which was played once more since."""
    root, place = tmp_path_factory.mktemp("repository"), Workspace.at(tmp_path_factory.mktemp("workspace"))
    shutil.copytree(QUEUE / "pack", root / "pack")
    for name in ("gates.json", "lane.json", "campaign.json"):
        shutil.copy(QUEUE / name, root)
    lane = load_lane(str(root / "lane.json"))
    first = play(lane.with_search(trials=6), place, track=False).lock
    second = play(lane.with_search(trials=16), place, track=False, resume=True).lock
    assert Lock.read(first).candidate_pack.digest != Lock.read(second).candidate_pack.digest
    (root / "locks").mkdir()
    shutil.copy(first, root / "locks")
    shutil.copy(first, root / "locks" / "queue.json")
    unpack(unpacking(Lock.read(first), root / "tuned"), root / "tuned")
    shutil.copytree(certify_lock(first, place, seeds=(1, 2, 3)).folder, root / "evidence" / "first")
    git(root, "init", "-q", "-b", "main")
    commit(root)
    return root, place, first, second


@pytest.fixture
def repository(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "r")
    git(tmp_path / "r", "checkout", "-q", "-b", "work")
    return tmp_path / "r"


@pytest.fixture
def lock(made, repository):
    """The lock's file under its own name."""
    return repository / "locks" / made[2].name


def rewritten(path, **fields):
    """Changes a lock's fields, and digests its id anew."""
    body = {key: value for key, value in read_json(path).items() if key != "lock_id"} | fields
    path.write_text(json.dumps({**body, "lock_id": digest(body)}))


def changed(path, **fields):
    path.write_text(json.dumps(read_json(path) | fields))


def stopped(root, path, *why, code):
    """Checks that the gate refuses a change, as it lies in the working tree and once it is committed."""
    for _ in range(2):
        gated = gate(root, "main")
        rows = [row for row in gated.refused if row.path == path]
        assert rows, (path, gated.refused)
        said = "; ".join(row.why for row in rows)
        assert all(part in said for part in why), said
        assert gated.exit_code == code and not gated.ok, gated.refused
        commit(root)
    return gated


# --- what passes ------------------------------------------------------------------------------------------


def test_an_honest_change_passes(here, made, repository, monkeypatch):
    _, place, first, second = made
    shutil.copy(second, repository / "locks")
    shutil.copy(second, repository / "locks" / "queue.json")
    unpack(unpacking(Lock.read(second), repository / "tuned"), repository / "tuned")
    shutil.copytree(certify_lock(second, place, seeds=(1, 2, 3)).folder, repository / "evidence" / "second")
    (repository / "README.md").write_text("What changed.\n")
    commit(repository)
    gated = gate(repository, "main")
    assert gated.ok and gated.exit_code == 0, gated.refused
    tuned = "pack tuned changed"
    assert {proof.impact.path: proof.impact.why for proof in gated.proofs} == {
        "evidence/second": ("new",), "evidence/second/lock.json": ("new", tuned),
        f"locks/{second.name}": ("new", tuned), "locks/queue.json": ("changed", tuned),
        f"locks/{first.name}": (tuned,), "evidence/first/lock.json": (tuned,),
    }  # fmt: skip
    assert [row.path for row in gated.differs] == ["locks/queue.json", "tuned", "tuned"]
    assert f"{first.stem} (GO, PASS_BPLUS, of 6 trials) → {second.stem} (GO, " in gated.differs[0].what
    text = markdown(gated)
    assert "Lanelock gate: passed" in text and "| wait | `q1/wait_p90` |" in text and "### Not proved" in text
    monkeypatch.chdir(repository / "pack")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(repository.parent / "summary.md"))
    code, out, err = here("gate", "--json", "--base", "main", workspace=repository.parent / "none")
    assert (code, err) == (0, "") and json.loads(out) == json.loads(json.dumps(gated.as_document()))
    assert (repository.parent / "summary.md").read_text() == text and not (repository.parent / "none").exists()


def test_a_change_of_something_else_proves_nothing(repository):
    (repository / "README.md").write_text("What changed.\n")
    (repository / "notes.json").write_text("[1, ")
    gated = gate(repository, "main")
    assert gated.ok and not gated.proofs and "touches no pack" in markdown(gated)


def test_a_lock_may_be_moved(lock, repository):
    (repository / "kept").mkdir()
    lock.rename(repository / "kept" / lock.name)
    assert gate(repository, "main").ok


def test_stricter_gates_are_shown_with_every_lock_that_rests_on_them(lock, repository):
    gates = read_json(repository / "gates.json")
    gates["gates"][0]["thresholds"] = {"B": 2.0, "B+": 0.2}
    changed(repository / "gates.json", gates=gates["gates"])
    gated = gate(repository, "main")
    words = [row.what for row in gated.differs if row.path == "gates.json"]
    assert words == ["gate wait, B: 1 → 2: laxer", "gate wait, B+: 0.25 → 0.2: stricter"]
    assert {proof.impact.path for proof in gated.proofs} >= {f"locks/{lock.name}", "locks/queue.json"}
    assert gated.exit_code == 1, "locks made by other gates have to be made again"


def test_the_workflow_to_copy_asks_for_what_there_is():
    workflow = yaml.safe_load((ROOT / "docs" / "gate-workflow.yml").read_text())
    *_, last = workflow["jobs"]["gate"]["steps"]
    program, command, *options = shlex.split(last["run"])
    assert program.endswith("/lanelock") and command == "gate" and workflow["permissions"] == {"contents": "read"}
    assert options == ["--base", "$BASE"] and {"--base"} <= {name for row in gate_command.params for name in row.opts}


# --- attacks ----------------------------------------------------------------------------------------------


def test_a_byte_flipped(lock, repository):
    lock.write_text(lock.read_text().replace('"verdict": "PASS', '"verdict": "FASS', 1))
    stopped(repository, f"locks/{lock.name}", "/lock_id: the lock states", code=3)


def test_a_number_changed_and_the_digest_rewritten(repository):
    path = repository / "locks" / "queue.json"
    proof = read_json(path)["proof"]
    proof["1"]["metrics"]["q1/wait_p90"] += 0.01
    rewritten(path, proof=proof)
    stopped(repository, "locks/queue.json", "seed 1: metrics", "checks differ", code=3)


def test_a_parent_that_went_on_meanwhile(made, repository):
    shutil.copy(made[3], repository / "locks")
    commit(repository)
    assert gate(repository, "main").ok
    git(repository, "checkout", "-q", "main")
    changed(repository / "pack" / "queue_policy_v1.json", servers=9)
    commit(repository)
    git(repository, "checkout", "-q", "work")
    stopped(repository, f"locks/{made[3].name}", "stale parent: it was tuned from pack pack", code=1)


def test_a_parent_changed_under_its_lock(lock, repository):
    changed(repository / "pack" / "queue_policy_v1.json", servers=9)
    stopped(repository, f"locks/{lock.name}", "stale parent", "but pack is", code=1)


def test_a_pack_changed_under_its_lock(lock, repository):
    changed(repository / "tuned" / "queue_policy_v1.json", servers=2)
    stopped(repository, "tuned", f"the pack of lock {lock.stem} is", "which no lock states", code=1)


def test_lax_gates_in_a_lock(repository):
    path = repository / "locks" / "queue.json"
    gates = read_json(path)["gates"]
    gates["gates"][0]["thresholds"] = {"B": 1e9, "B+": 1e9}
    rewritten(path, gates=gates)
    stopped(repository, "locks/queue.json", "its gates are not those of gates.json: /gates", code=3)


def test_lax_gates_under_another_name(repository):
    path = repository / "locks" / "queue.json"
    gates = read_json(path)["gates"] | {"id": "kind"}
    gates["gates"][0]["thresholds"] = {"B": 1e9, "B+": 1e9}
    rewritten(path, gates=gates)
    why = ("it held a lock graded by gates queue, and now one graded by kind", "gates: those of the installed engine")
    stopped(repository, "locks/queue.json", *why, code=3)


def test_a_gate_file_removed(lock, repository):
    (repository / "gates.json").unlink()
    stopped(repository, f"locks/{lock.name}", "the gate file queue that it rests on is removed", code=1)


def test_seeds_removed_from_what_is_asked(repository):
    gates = read_json(repository / "gates.json")["promotion"]
    gates["certified"]["holdout_seeds"] -= 1
    changed(repository / "gates.json", promotion=gates)
    changed(repository / "lane.json", seeds=[1, 2])
    phases = read_json(repository / "campaign.json")["phases"]
    phases["grade"]["holdout"] -= 1
    changed(repository / "campaign.json", seeds=[1, 3], phases=phases)
    gated = stopped(repository, "lane.json", "/seeds: seed 3 is removed", code=1)
    said = {(row.path, row.why.partition(":")[0]) for row in gated.refused}
    assert said >= {
        ("gates.json", "/promotion/certified/holdout_seeds"), ("campaign.json", "/seeds"),
        ("campaign.json", "/phases/grade/holdout"),
    }  # fmt: skip


def test_seeds_removed_from_a_lock(repository):
    path = repository / "locks" / "queue.json"
    document = read_json(path)
    document["lane"]["seeds"] = document["seeds"] = [1, 2]
    for part in (document["proof"], document["authority"]["metrics"]):
        del part["3"]
    rewritten(path, **{key: value for key, value in document.items() if key != "lock_id"})
    changed(repository / "lane.json", seeds=[1, 2])
    stopped(repository, "locks/queue.json", "/seeds: seed 3 is removed", "reason: stated", code=3)


def test_a_lane_widened_in_its_lock_alone(repository):
    path = repository / "locks" / "queue.json"
    lane = read_json(path)["lane"]
    lane["knobs"]["service"]["high"] = 20.0
    rewritten(path, lane=lane)
    gated = stopped(
        repository, "locks/queue.json", "its lane is not lane.json: /knobs/service/high: 20, there 2", code=1
    )
    assert len(gated.refused) == 1, "all else in it holds"


def test_a_report_edited(repository):
    report = repository / "evidence" / "first" / "report.md"
    report.write_text(report.read_text() + "\nIt was never better.\n")
    stopped(repository, "evidence/first", "report.md: stated", code=3)


def test_evidence_removed(repository):
    shutil.rmtree(repository / "evidence")
    stopped(repository, "evidence/first", "is removed, and the lock stays", code=1)


def test_a_lock_deleted(lock, repository):
    lock.unlink()
    (repository / "locks" / "queue.json").unlink()
    shutil.rmtree(repository / "evidence")
    stopped(repository, f"locks/{lock.name}", "is removed: a lock is superseded, never deleted", code=1)


def test_a_lock_hidden(lock, repository):
    changed(lock, format="another")
    stopped(repository, f"locks/{lock.name}", "is no lock any more", code=3)


def test_a_lock_under_the_name_of_another(made, lock, repository):
    shutil.copy(made[3], lock)
    stopped(repository, f"locks/{lock.name}", "the file is named after another lock", code=3)


def test_a_lock_of_another_lane_in_its_place(repository, tmp_path):
    lane = load_lane(str(QUEUE / "lane_few.json")).with_search(trials=1)
    other = play(lane, Workspace.at(tmp_path / "other"), track=False).lock
    shutil.copy(other, repository / "locks" / "queue.json")
    stopped(repository, "locks/queue.json", "it held a lock of lane queue of engine queue, and now one of lane", code=1)


def test_a_link_instead_of_a_lock(lock, repository, tmp_path):
    shutil.copy(lock, tmp_path / "elsewhere.json")
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere.json")
    stopped(repository, f"locks/{lock.name}", "it is a link", code=3)


def test_a_lock_that_git_lays_out_in_another_encoding(lock, repository):
    """Else it is no document while it is proved, and the forged one that git keeps is, once the attribute is gone."""
    forged, path = repository / "locks" / "forged.json", "locks/forged.json"
    (repository / ".gitattributes").write_text(f"{path} working-tree-encoding=UTF-16LE-BOM\n")
    forged.write_bytes(b"\xff\xfe" + lock.read_text().replace('"GO"', '"NO_GO"').encode("utf-16-le"))
    commit(repository)
    stopped(repository, path, "git keeps another text", code=3)


def test_line_ends_that_git_converts_are_no_attack(lock, repository):
    (repository / ".gitattributes").write_text("*.json text eol=crlf\n")
    commit(repository)
    lock.unlink()
    git(repository, "checkout", "--", f"locks/{lock.name}")
    assert b"\r\n" in lock.read_bytes() and gate(repository, "main").ok


def test_an_engine_that_is_not_here(repository):
    rewritten(repository / "locks" / "queue.json", engine="elsewhere")
    gated = stopped(repository, "locks/queue.json", "it cannot be proved here", code=1)
    assert "elsewhere" in str(gated.refused)


def test_documents_that_are_not_valid(repository):
    changed(repository / "lane.json", budget={"trials": 0, "seconds": 1})
    changed(repository / "pack" / "pack.json", more=1)
    changed(repository / "tuned" / "queue_policy_v1.json", servers=0)
    gated = stopped(repository, "lane.json", "/budget/trials: 0 is below the minimum 1", code=1)
    said = [(row.path, row.why) for row in gated.refused]
    assert ("pack", "pack.json: /: unknown field more (known: $schema, engine, upstream)") in said
    assert ("tuned", "tuned/queue_policy_v1.json: /servers: 0 is below the minimum 1") in said


# --- usage ------------------------------------------------------------------------------------------------


def test_a_base_that_is_none_is_refused(here, repository, tmp_path, monkeypatch):
    for ref in ("nowhere", "--output=x", "-", "main:lane.json", ""):
        with pytest.raises(PolicyError, match=r"--base: .* is no commit of"):
            gate(repository, ref)
    monkeypatch.chdir(repository)
    refused(here("gate", "--base", "nowhere", workspace=tmp_path / "w"), "--base: 'nowhere' is no commit")
    git(repository, "branch", "-m", "main", "trunk")
    with pytest.raises(PolicyError, match="none of origin/HEAD"):
        gate(repository)
    (tmp_path / "plain").mkdir()
    with pytest.raises(WorkspaceError, match=r"git rev-parse: fatal: not a git repository"):
        gate(tmp_path / "plain")
    assert not list(Path(repository).glob("x"))


def test_nothing_of_the_change_is_executed(repository, tmp_path):
    trap, sprung = tmp_path / "trap.sh", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    trap.chmod(0o755)
    (repository / ".gitattributes").write_text("*.json diff=trap textconv=trap filter=trap\n")
    (repository / "queue_engine.py").write_text(f"open({str(sprung)!r}, 'w')\n")
    (repository / "conftest.py").write_text(f"open({str(sprung)!r}, 'w')\n")
    hooks = repository / ".git" / "hooks"
    for name in ("pre-commit", "post-checkout", "post-index-change"):
        shutil.copy(trap, hooks / name)
    git(repository, "config", "diff.trap.textconv", str(trap))
    git(repository, "config", "diff.trap.command", str(trap))
    git(repository, "config", "core.fsmonitor", str(trap))
    rewritten(repository / "locks" / "queue.json", reason="another")
    assert gate(repository, "main").exit_code == 3 and not sprung.exists()


def test_a_forged_copy_beside_a_lock_is_proved_by_itself(lock, repository):
    forged(lock, repository / "locks", reason="it is the best of all")
    stopped(repository, "locks/forged.json", "reason: stated it is the best of all", code=3)


# --- signatures -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Keys by the name of who holds them."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: SigningKey.make(folder / f"{name}.pem") for name in ("ada", "ben", "eve")}


@pytest.fixture
def brought(made, repository, keys):
    """A lock that the change brings to a branch whose trust asks a second person."""
    git(repository, "checkout", "-q", "main")
    trust(repository, keys, "ada", "ben")
    sign(repository / "locks" / made[2].name, keys["ada"])
    sign(repository / "locks" / made[2].name, keys["ben"])
    commit(repository)
    git(repository, "checkout", "-q", "-b", "next")
    shutil.copy(made[3], repository / "locks")
    return repository / "locks" / made[3].name


def trust(repository, keys, *names):
    rows = [{"name": name, "public": keys[name].public, "roles": ["approver"]} for name in names]
    asked = {"authority": {"roles": ["approver"], "signatures": 1, "maker_may_approve": False}}
    document = {"format": "lanelock.trust/1", "keys": rows, "aliases": asked}
    (repository / "trust.json").write_text(json.dumps(document))


def test_a_lock_that_two_people_signed_passes(brought, repository, keys):
    sign(brought, keys["ada"])
    sign(brought, keys["ben"])
    gated = gate(repository, "main")
    assert gated.ok, gated.refused
    assert [row.said for row in gated.signed] == ["signed by ada (approver), ben (approver)"]
    commit(repository)
    git(repository, "checkout", "-q", "-b", "later")
    trust(repository, keys, "ada", "eve")
    gated = gate(repository, "next")
    assert gated.ok and gated.differs[-1].path == "trust.json", "what the branch holds already is not asked again"
    assert {proof.impact.why for proof in gated.proofs} == {("trust.json changed",)}


def test_nobodys_signature(brought, repository):
    why = "trust.json of the base branch asks signatures for authority, and nobody whom it names has signed"
    stopped(repository, f"locks/{brought.name}", why, code=1)


def test_self_approval(brought, repository, keys):
    sign(brought, keys["ada"])
    stopped(repository, f"locks/{brought.name}", "other than ada", "it is signed by ada", code=1)


def test_a_foreign_key(brought, repository, keys):
    sign(brought, keys["eve"])
    stopped(repository, f"locks/{brought.name}", "nobody whom it names has signed", code=1)
    sign(brought, keys["ada"])
    stopped(repository, f"locks/{brought.name}", "other than ada", code=1)


def test_a_replayed_signature(made, brought, repository):
    shutil.copy(beside(repository / "locks" / made[2].name), beside(brought))
    why = "the signatures are over something else than the document beside them states"
    stopped(repository, f"locks/{brought.name}", why, code=3)


def test_a_trust_widened_by_the_change_that_needs_it(brought, repository, keys):
    trust(repository, keys, "ada", "ben", "eve")
    sign(brought, keys["ada"])
    sign(brought, keys["eve"])
    gated = stopped(repository, f"locks/{brought.name}", "other than ada", "it is signed by ada", code=1)
    assert gated.differs[-1].path == "trust.json"


def test_a_trust_removed_by_the_change_that_it_refuses(brought, repository):
    (repository / "trust.json").unlink()
    stopped(repository, f"locks/{brought.name}", "asks signatures for authority", code=1)


def test_a_trust_that_no_later_gate_could_read(repository, keys):
    trust(repository, keys, "ada", "ada")
    stopped(repository, "trust.json", "/keys/1/public: the key of ada is named twice", code=1)


def test_a_signature_removed(made, brought, repository):
    brought.unlink()
    beside(repository / "locks" / made[2].name).unlink()
    stopped(repository, f"locks/{made[2].name}", "asks signatures for authority", code=1)


def test_evidence_of_an_unsigned_lock(made, repository, keys):
    git(repository, "checkout", "-q", "main")
    trust(repository, keys, "ada", "ben")
    commit(repository)
    git(repository, "checkout", "-q", "work")
    shutil.copytree(certify_lock(made[2], made[1], seeds=(1, 2)).folder, repository / "evidence" / "more")
    stopped(repository, f"evidence/more/{FILE}", "asks signatures for authority", code=1)


# --- by chance --------------------------------------------------------------------------------------------


def test_mutants_of_every_document_are_refused_or_shown_and_never_end_the_gate(made, repository, keys, monkeypatch):
    """What runs is left out: it costs a second a mutant, and has mutants of its own."""
    monkeypatch.setattr("lanelock.sweeps.repository.gate.verify_lock", lambda *_: Findings(()))
    monkeypatch.setattr("lanelock.sweeps.repository.gate.verify_evidence", lambda *_: Findings(()))
    git(repository, "checkout", "-q", "main")
    trust(repository, keys, "ada", "ben")
    sign(repository / "locks" / made[2].name, keys["ada"])
    commit(repository)
    git(repository, "checkout", "-q", "-b", "mutants")
    chance, paths = random.Random(7), sorted(repository.rglob("*.json"))
    paths.append(beside(repository / "locks" / made[2].name))
    for _ in range(50):
        path = chance.choice(paths)
        text = path.read_text()
        document = mutated(json.loads(text), chance)
        if "lock_id" in document and chance.random() < 0.5:
            with suppress(PolicyError):  # half a character has no digest
                document["lock_id"] = digest({key: value for key, value in document.items() if key != "lock_id"})
        path.write_text(json.dumps(document))
        gated = gate(repository, "main")
        assert gated.refused or gated.differs or gated.proofs or json.loads(text) == document, (path, document)
        assert markdown(gated).isprintable() or "\n" in markdown(gated)
        path.write_text(text)
    assert gate(repository, "main").ok
