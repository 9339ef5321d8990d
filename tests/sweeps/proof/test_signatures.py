"""Signatures: who stands for a lock, its evidence and a move, and what trust.json lets each of them do."""

import base64
import json
import random
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from conftest import forged
from lanes import QUEUE, refused
from mutants import mutated

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError, LanelockError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof import moves as chain
from lanelock.sweeps.proof.envelopes import SigningKey, sealed
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.moves import append, holders, moves, new_move
from lanelock.sweeps.proof.promotion import promote, rollback
from lanelock.sweeps.proof.signatures import approvals_of, beside, sign, signatures_text, signed_by
from lanelock.sweeps.proof.trust import Demand, Head, Key, Trust, read_trust, trust_for, trust_of
from lanelock.sweeps.sweep import play
from lanelock.sweeps.upkeep.retention import apply, survey
from lanelock.sweeps.upkeep.status import status
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Keys by the name of who holds them."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: SigningKey.make(folder / f"{name}.pem") for name in ("ada", "ben", "cyd", "eve")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with a lock and its certification."""
    workspace = Workspace.at(tmp_path_factory.mktemp("signatures"))
    lock = play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), workspace, track=False).lock
    certify_lock(lock, workspace, holdout=16)
    return workspace


@pytest.fixture
def place(made, tmp_path):
    """A copy of it, with nothing signed and nothing moved."""
    subprocess.run(["cp", "-r", made.root, tmp_path / "ws"], check=True)
    return Workspace.at(tmp_path / "ws")


@pytest.fixture
def lock(place):
    return next(place.locks.glob("*.json"))


def trusted(keys, workspace=None, **aliases):
    """Returns a trust in which ada makes and approves, ben and cyd approve; written where a workspace is given."""
    roles = {"ada": ("maker", "approver"), "ben": ("approver",), "cyd": ("approver",)}
    rows = [{"name": name, "public": keys[name].public, "roles": list(roles[name])} for name in roles]
    demands = {alias: {"roles": ["approver"], "signatures": 1, "maker_may_approve": False} for alias in ("candidate",)}
    document = {"format": "lanelock.trust/1", "keys": rows, "aliases": demands | aliases}
    if workspace is not None:
        workspace.trust.write_text(json.dumps(document))
        return read_trust(workspace.trust)
    keys = tuple(Key(row["name"], row["public"], tuple(row["roles"])) for row in rows)
    return Trust("trust.json", keys, {alias: Demand(**row) for alias, row in document["aliases"].items()})


def names(signers):
    return [signer.name for signer in signers]


# The key and the envelope


def test_a_key_is_its_owners_alone_and_is_never_overwritten(tmp_path, here):
    code, out, _ = here("key", "make", "ada", "--out", tmp_path / "keys", "--role", "maker", workspace=tmp_path)
    private, public = tmp_path / "keys" / "ada.pem", tmp_path / "keys" / "ada.pub.json"
    key, entry = SigningKey.read(private), read_json(public)
    assert code == 0 and stat.S_IMODE(private.stat().st_mode) == 0o600 and b"PRIVATE KEY" in private.read_bytes()
    assert entry == {"name": "ada", "public": key.public, "roles": ["maker"]} and json.dumps(entry) in out
    assert Key("ada", key.public).key_id == key.signer.public_key.keyid and key.signer.public_key.keyid in out
    before = private.read_bytes()
    refused(here("key", "make", "ada", "--out", tmp_path / "keys", workspace=tmp_path), "never overwritten")
    refused(here("key", "make", "../ada", "--out", tmp_path / "keys", workspace=tmp_path), "is not a name for a key")
    assert private.read_bytes() == before


def test_a_key_in_a_repository_that_does_not_ignore_it_is_said(tmp_path, here):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("secret/\n")
    code, _, err = here("key", "make", "ada", "--out", tmp_path / "secret", workspace=tmp_path)
    assert code == 0 and err == ""
    code, _, err = here("key", "make", "ada", "--out", tmp_path / "open", workspace=tmp_path)
    assert code == 0 and "never commit it" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "content", [b"", b"secret", b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused_without_a_word_of_what_it_is(tmp_path, content):
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match="not an Ed25519 private key") as error:
        SigningKey.read(path)
    assert "secret" not in str(error.value) and "c2Vj" not in str(error.value)
    with pytest.raises(PolicyError, match="No such file"):
        SigningKey.read(tmp_path / "gone.pem")


def test_several_sign_one_statement_and_the_lock_stays_as_it_is(place, lock, keys):
    before, trust = lock.read_bytes(), trusted(keys)
    assert signed_by(lock, trust) == () and signatures_text(lock, trust) == "unsigned"
    with ThreadPoolExecutor() as pool:
        assert [*pool.map(sign, [lock] * 3, [keys["ada"], keys["ben"], keys["cyd"]])] == [True] * 3, "none is lost"
    assert len(signed_by(lock, trust)) == 3
    beside(lock).unlink()
    assert sign(lock, keys["ada"]) and sign(lock, keys["ben"]) and not sign(lock, keys["ada"])
    assert names(signed_by(lock, trust)) == ["ada", "ben"] and lock.read_bytes() == before
    assert signatures_text(lock, trust) == "signed by ada (maker, approver), ben (approver)"
    envelope, held = read_json(beside(lock)), Lock.read(lock)
    stated = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json" and len(envelope["signatures"]) == 2
    assert stated["_type"] == "https://in-toto.io/Statement/v1" and stated["predicateType"] == "urn:lanelock:lock:v1"
    assert stated["subject"] == [{"name": lock.name, "digest": {"sha256": held.lock_id}}]
    assert stated["predicate"]["result"]["verdict"] == held.verdict
    assert {"name": "gates", "digest": {"sha256": stated["predicate"]["materials"][2]["digest"]["sha256"]}} in stated[
        "predicate"
    ]["materials"]


def test_evidence_is_signed_by_its_index_beside_its_folder(place, lock, keys, here):
    folder, trust = next(place.evidence.iterdir()), trusted(keys)
    assert sign(folder, keys["cyd"]) and names(signed_by(folder, trust)) == ["cyd"]
    assert beside(folder).parent == place.evidence, "the pack is a closed list of files"
    stated = json.loads(base64.b64decode(read_json(beside(folder))["payload"]))
    assert stated["subject"][0]["digest"]["sha256"] == file_digest(folder / "index.json")
    assert stated["predicate"]["lock"] == Lock.read(lock).lock_id
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["cp", "-r", folder, elsewhere / "renamed"], check=True)
    beside(elsewhere / "renamed").write_bytes(beside(folder).read_bytes())
    assert names(signed_by(elsewhere / "renamed", trust)) == ["cyd"]
    (folder / "seeds" / "1.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"seeds/1\.json"):
        signed_by(folder, trust)


def test_nothing_takes_signatures_for_a_lock_or_for_evidence(place, lock, keys, here):
    evidence = next(place.evidence.iterdir())
    sign(lock, keys["ada"]), sign(evidence, keys["ada"])
    sweep = Lock.read(lock).sweep
    assert find_lock(sweep, place) == lock and [row.name for row in status(place).locks] == [lock.stem]
    assert status(place).evidence == 1
    found = survey(place)
    assert [item.name for item in found.remove if item.kind == "evidence"] == []
    lock.unlink(), beside(lock).unlink()
    apply(survey(place), place, lambda *given: None)
    assert not evidence.exists() and not beside(evidence).exists(), "its signatures went with it"


def other(lock, folder):
    """Another lock that verifies as well."""
    return forged(lock, folder, sweep="another-1")


def changed(path, change):
    document = read_json(path)
    change(document)
    path.write_text(text_of(document))


def flip(document):
    whole = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
    whole[5] ^= 1
    document["signatures"][0]["sig"] = base64.b64encode(whole).decode()


def restate(document):
    stated = json.loads(base64.b64decode(document["payload"]))
    stated["predicate"]["result"]["verdict"] = "PASS_A"
    document["payload"] = base64.b64encode(json.dumps(stated).encode()).decode()


FORGERIES = {
    "a signature changed": (flip, "the signature of ada"),
    "another statement": (restate, "are over something else"),
    "another type": (lambda envelope: envelope.update(payloadType="application/json"), "/payloadType"),
    "a key twice": (lambda envelope: envelope["signatures"].append(envelope["signatures"][0]), "Multiple signatures"),
    "no signature": (lambda envelope: envelope.update(signatures=[]), "/signatures"),
    "a field of its own": (lambda envelope: envelope.update(note="trust me"), "unknown field note"),
    "not base64": (lambda envelope: envelope.update(payload="="), "/payload"),
    "another's name": (lambda envelope: envelope["signatures"][0].update(keyid="KEY"), "the signature of ben"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_envelope_that_was_changed_is_refused(place, lock, keys, here, forgery):
    change, said = FORGERIES[forgery]
    trust = trusted(keys, place)
    sign(lock, keys["ada"])
    ben = Key("", keys["ben"].public).key_id
    changed(beside(lock), change)
    beside(lock).write_text(beside(lock).read_text().replace('"KEY"', f'"{ben}"'))
    with pytest.raises(IntegrityError, match=said):
        signed_by(lock, trust)
    for command in (("verify", lock), ("promote", lock, "--to", "authority")):
        if command[0] == "verify" or forgery not in ("a signature changed", "another's name"):
            refused(here(*command, workspace=place.root), said, code=3)


def test_a_signature_under_another_payload_type_is_none_under_ours(lock, keys):
    """DSSE signs the type with the payload."""
    from securesystemslib.dsse import Envelope

    from lanelock.sweeps.proof.signatures import statement_of

    envelope = Envelope(statement_of(lock), "application/json", {})
    envelope.sign(keys["ada"].signer)
    beside(lock).write_text(text_of({**envelope.to_dict(), "payloadType": "application/vnd.in-toto+json"}))
    with pytest.raises(IntegrityError, match="the signature of ada"):
        signed_by(lock, trusted(keys))
    beside(lock).unlink()


def test_signatures_of_another_lock_do_not_fit(place, lock, keys, tmp_path):
    second = other(lock, tmp_path)
    sign(lock, keys["ada"])
    beside(second).write_bytes(beside(lock).read_bytes())
    for attempt in (signed_by, signatures_text):
        with pytest.raises(IntegrityError, match="are over something else"):
            attempt(second, trusted(keys))
    with pytest.raises(IntegrityError, match="are over something else"):
        sign(second, keys["ben"])


def test_a_random_byte_of_an_envelope_changes_nothing_or_is_refused(place, lock, keys):
    sign(lock, keys["ada"]), sign(lock, keys["eve"])
    trust, path, chance = trusted(keys), beside(lock), random.Random(3)
    whole, seen = path.read_bytes(), set()
    for _ in range(150):
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :])
        try:
            seen.add(tuple(names(signed_by(lock, trust))))
        except IntegrityError:
            seen.add("refused")
    assert seen <= {("ada",), (), "refused"} and "refused" in seen, "() where her key's id was changed"


def test_a_stranger_is_said_and_counts_for_nobody(place, lock, keys, here):
    sign(lock, keys["eve"])
    code, out, _ = here("verify", lock, "--json", workspace=place.root)
    assert code == 0 and json.loads(out)["signed_by"] == []
    code, out, _ = here("verify", lock, workspace=place.root)
    assert f"signed by key {Key('', keys['eve'].public).key_id[:12]} (trust.json does not name it)" in out


# The commands


def test_sign_verifies_first_and_verify_says_by_whom(place, lock, keys, tmp_path, here, monkeypatch):
    trusted(keys, place)
    (tmp_path / "ada.pem").write_bytes(keys["ada"].signer.private_bytes)
    sweep = Lock.read(lock).sweep
    _, out, _ = here("verify", sweep, workspace=place.root)
    assert out.splitlines()[-1] == "unsigned"
    refused(here("sign", sweep, workspace=place.root), "--key FILE or LANELOCK_KEY is needed")
    code, out, _ = here("sign", sweep, "--key", tmp_path / "ada.pem", workspace=place.root)
    assert code == 0 and "0 differ; signed by ada (maker, approver)" in out
    monkeypatch.setenv("LANELOCK_KEY", str(tmp_path / "ada.pem"))
    code, out, _ = here("sign", sweep, workspace=place.root)
    assert code == 0 and "ada (maker, approver) has signed it already" in out
    code, out, _ = here("sign", next(place.evidence.iterdir()).name, "--json", workspace=place.root)
    assert code == 0 and json.loads(out)["signed"] and json.loads(out)["signed_by"][0]["name"] == "ada"
    _, out, _ = here("verify", sweep, workspace=place.root)
    assert "signed by ada (maker, approver)" in out
    _, out, _ = here("lock", "show", sweep, "--json", workspace=place.root)
    assert json.loads(out)["signed_by"] == [
        {"key": Key("", keys["ada"].public).key_id, "name": "ada", "roles": ["maker", "approver"]}
    ]
    proof = read_json(lock)["proof"]
    proof["1"]["metrics"]["q1/wait_p90"] = 0.001
    lie = forged(lock, tmp_path, proof=proof)
    refused(here("sign", lie, workspace=place.root), "does not verify", code=3)
    assert not beside(lie).exists()


def test_without_keys_and_trust_all_is_as_before_and_says_unsigned(place, lock, here):
    code, out, _ = here("promote", lock, "--to", "candidate", "--dry-run", "--json", workspace=place.root)
    assert code == 0 and json.loads(out)["signed_by"] == []
    assert promote(lock, "candidate", place).written
    assert moves(place)[0].signed_by is None and moves(place)[0].approvals == ()
    _, out, _ = here("status", workspace=place.root)
    assert ", unsigned" in out


# Trust and moves


def refusal(lock, place, alias="candidate", **given):
    """Returns why a promotion is refused. What it would take is not written."""
    found = promote(lock, alias, place, **given)
    assert not found.written and len(found.refusals) == 1 and len(moves(place)) == 0
    return found.refusals[0]


def test_a_promotion_needs_a_second_person(place, lock, keys):
    trusted(keys, place)
    assert "asks that every move of candidate be signed" in refusal(lock, place)
    assert "gives no role to key" in refusal(lock, place, key=keys["eve"])
    assert "it is signed by nobody of that role" in refusal(lock, place, key=keys["ada"])
    sign(lock, keys["ada"])
    assert "1 signature by approver, other than ada, who signs the move," in refusal(lock, place, key=keys["ada"])
    sign(lock, keys["eve"])
    assert "it is signed by ada" in refusal(lock, place, key=keys["ada"]), "a foreign key is none"
    sign(lock, keys["ben"])
    assert promote(lock, "candidate", place, key=keys["ada"]).written
    (move,) = moves(place)
    assert str(move.signed_by) == "ada (maker, approver)" and len(move.approvals) == 1
    assert "signed by ada (maker, approver)" in chain.as_line(move)
    assert names(signed_by(place.promoted / move.to.lock_id / "lock.json", trust_of(place))) == ["ada", "ben"]


def test_signatures_on_the_promoted_copy_and_on_evidence_that_passed_count_as_well(place, lock, keys):
    trusted(keys, place, candidate={"roles": ["approver"], "signatures": 2, "maker_may_approve": False})
    sign(next(place.evidence.iterdir()), keys["ben"])
    assert "2 signatures by approver" in refusal(lock, place, key=keys["ada"])
    assert promote(lock, "authority", place).written, "of which trust.json says nothing"
    sign(find_lock("authority", place), keys["cyd"])
    assert promote(lock, "candidate", place, key=keys["ada"]).written and len(moves(place)[1].approvals) == 2


def test_one_key_or_one_person_is_not_two(place, lock, keys, tmp_path):
    two = {"roles": ["approver"], "signatures": 2, "maker_may_approve": True}
    trusted(keys, place, candidate=two)
    sign(lock, keys["ben"])
    changed(beside(lock), lambda envelope: envelope["signatures"].append(dict(envelope["signatures"][0])))
    with pytest.raises(IntegrityError, match="Multiple signatures"):
        promote(lock, "candidate", place, key=keys["ben"])
    beside(lock).unlink()
    sign(lock, keys["ben"]), sign(next(place.evidence.iterdir()), keys["ben"])
    assert "it is signed by ben" in refusal(lock, place, key=keys["ben"])
    changed(place.trust, lambda trust: trust["keys"][2].update(name="ben"))  # a second key of his
    sign(lock, keys["cyd"])
    assert "it is signed by ben" in refusal(lock, place, key=keys["ben"])
    changed(place.trust, lambda trust: trust["keys"][2].update(name="cyd", public=keys["ben"].public))
    with pytest.raises(PolicyError, match=r"/keys/2/public: the key of cyd is named twice"):
        promote(lock, "candidate", place, key=keys["ben"])


def test_the_maker_may_approve_where_trust_says_so(place, lock, keys):
    trusted(keys, place, candidate={"roles": ["maker"], "signatures": 1, "maker_may_approve": True})
    sign(lock, keys["ben"])
    assert "1 signature by maker on the lock" in refusal(lock, place, key=keys["ada"])
    sign(lock, keys["ada"])
    assert promote(lock, "candidate", place, key=keys["ada"]).written


def test_certified_asks_for_both_the_certification_and_the_second_person(place, lock, keys):
    trusted(keys, place, certified={"roles": ["approver"], "signatures": 1, "maker_may_approve": False})
    assert "asks that every move of certified be signed" in refusal(lock, place, "certified")
    subprocess.run(["rm", "-r", place.evidence], check=True)
    sign(lock, keys["ben"])
    assert "never certified" in refusal(lock, place, "certified", key=keys["ada"])


def test_a_revoked_key_counts_no_more_and_its_moves_are_named(place, lock, keys):
    trusted(keys, place)
    sign(lock, keys["ben"])
    assert promote(lock, "candidate", place, key=keys["ada"]).written
    newest = chain.head(place)
    for index in (0, 1):  # the mover's key, then the approver's
        trusted(keys, place)
        changed(place.trust, lambda trust, index=index: trust["keys"].pop(index))
        with pytest.raises(IntegrityError, match=r"the move was not allowed: .*\(if the move is older than"):
            moves(place)
    changed(place.trust, lambda trust: trust.update(moves={"count": newest.count, "newest": newest.newest}))
    assert len(moves(place)) == 1, "what was moved before is held by the head that trust.json states"
    assert "signed by ada" in status(place).holders["candidate"]
    second = other(lock, place.root)
    found = promote(second, "candidate", place, force=True, why="more", key=keys["ada"])
    assert "it is signed by nobody of that role" in found.refusals[0]


def test_a_rollback_is_signed_and_needs_no_approval(place, lock, keys):
    trusted(keys, place)
    for path in (lock, other(lock, place.root)):
        sign(path, keys["ben"])
        assert promote(path, "candidate", place, force=True, why="more", key=keys["ada"]).written
    assert "be signed" in rollback("candidate", place).refusals[0]
    assert "gives no role" in rollback("candidate", place, key=keys["eve"]).refusals[0]
    assert rollback("candidate", place, key=keys["ada"]).written and holders(place)["candidate"].number == 3


def written(place, lock, alias="candidate", key=None, signer="", approvals=(), to=None):
    """Writes a record by hand, past every rule of `promote`."""
    held = Lock.read(lock)
    standing = chain.Standing(held.lock_id, held.sweep, held.engine, held.candidate_pack.digest, held.verdict, None)
    by = None if key is None else Key(signer, key.public)
    made = new_move(moves(place), place, "promote", alias, to or standing, forced=False, why="")
    made = replace(made, approvals=tuple(approvals), signed_by=by)
    assert append(place, made, key)


def test_a_record_written_by_hand_cannot_do_without_the_signatures(place, lock, keys, tmp_path):
    second = other(lock, tmp_path)
    sign(second, keys["ben"])
    move = sealed({"lock": Lock.read(lock).lock_id}, "move", "000001.json", keys["ben"], "ben")["envelope"]
    foreign = approvals_of(second)
    sign(lock, keys["ben"])
    good = approvals_of(lock)
    cases = {
        "be signed": {"approvals": good},
        "gives no role to key": {"key": keys["eve"], "signer": "ada", "approvals": good},
        "signed by nobody of that role": {"key": keys["ada"]},
        "other than ben, who signs the move": {"key": keys["ben"], "approvals": good},
        "not over the lock": {"key": keys["ada"], "approvals": foreign},
        "/approvals: not over": {"key": keys["ada"], "approvals": [move]},
    }
    for number, (said, given) in enumerate(cases.items()):
        workspace = Workspace.at(place.root / f"case-{number}")
        written(workspace, lock, **given)
        assert len(moves(workspace)) == 1
        trusted(keys, workspace)
        with pytest.raises(IntegrityError, match=said) as error:
            moves(workspace)
        assert "000001.json" in str(error.value)
    workspace = Workspace.at(place.root / "right")
    trusted(keys, workspace)
    written(workspace, lock, key=keys["ada"], approvals=good)
    assert moves(workspace)[0].signed_by.name == "ada"


def rewritten(place, change):
    """Edits the first record and makes the head good again, as far as that goes without a key."""
    record = place.promotions / "000001.json"
    changed(record, change)
    changed(place.promotions / "head.json", lambda head: head.update(newest=file_digest(record)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record.update(why="ada said so"), "000001.json: the signatures are over something else"),
        (lambda record: record.pop("envelope"), "/envelope: missing"),
        (lambda record: record.pop("signed_by"), "/signed_by: missing"),
        (lambda record: [record.pop(name) for name in ("envelope", "signed_by")], "head.json: the signatures are over"),
        (lambda record: record["signed_by"].update(public="0" * 64), "are over something else"),
    ],
)
def test_a_signed_move_cannot_be_edited_or_stripped_even_without_a_trust(place, lock, keys, change, said):
    written(place, lock, key=keys["ada"])
    rewritten(place, change)
    with pytest.raises(IntegrityError, match=said):
        moves(place)


def test_a_head_is_signed_by_who_signed_the_newest_record(place, lock, keys):
    """Truncating signed moves takes the signed head of that time; a stranger's is none."""
    written(place, lock, key=keys["ada"])
    written(place, lock, alias="authority", key=keys["ada"])
    (place.promotions / "000002.json").unlink()
    newest = file_digest(place.promotions / "000001.json")
    head = {"format": "lanelock.head/1", "count": 1, "newest": newest}
    for document in (head, sealed(head, "head", "head.json", keys["eve"], "ada")):
        (place.promotions / "head.json").write_text(text_of(document))
        with pytest.raises(IntegrityError, match="states 1 moves"):
            moves(place)
    (place.promotions / "head.json").write_text(text_of(sealed(head, "head", "head.json", keys["ada"], "")))
    assert len(moves(place)) == 1


def test_a_name_that_a_record_claims_is_not_believed(place, lock, keys):
    written(place, lock, key=keys["eve"], signer="ada")
    assert str(moves(place)[0].signed_by) == f"key {Key('', keys['eve'].public).key_id[:12]}"


@pytest.mark.parametrize("count", [200, pytest.param(2_500, marks=pytest.mark.slow)])
def test_no_mutant_of_a_signed_move_its_head_or_an_envelope_says_anything_else(place, lock, keys, count):
    """The digests that follow without a key are made good again, as a forger would."""
    trust, chance = trusted(keys, place), random.Random(count)
    sign(lock, keys["ben"])
    for alias in ("candidate", "authority"):
        assert promote(lock, alias, place, key=keys["ada"]).written
    first, second, head = sorted(place.promotions.glob("*.json"))
    whole, envelope = moves(place), beside(lock)
    files = {path: path.read_bytes() for path in (first, second, head, envelope)}
    for _ in range(count):
        path = chance.choice([*files])
        path.write_text(json.dumps(mutated(read_json(path), chance)))
        if path == first:
            changed(second, lambda record: record.update(before=file_digest(first)))
        if path in (first, second) and chance.random() < 0.8:
            changed(head, lambda stated: stated.update(newest=file_digest(second)))
        try:
            if path == envelope:
                assert names(signed_by(lock, trust)) in (["ben"], []), "[]: the id of his key was changed"
            else:
                assert moves(place) == whole and json.loads(path.read_text()) == json.loads(files[path])
        except IntegrityError as error:
            assert "\n" not in str(error)
        for file, content in files.items():
            file.write_bytes(content)


# Where trust lies


def test_the_repositorys_trust_has_the_say_and_nothing_beside_a_document_has(place, lock, keys, tmp_path):
    ours = trusted(keys, place)
    assert trust_of(place) == ours and trust_for(lock, place) == ours
    lax = place.trust.rename(tmp_path / "trust.json")
    assert trust_of(place).keys == (), "no repository here"
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert trust_of(place).where == str(lax)
    place.trust.write_text('{"format": "lanelock.trust/1", "keys": [], "aliases": {}}')
    assert trust_of(place).where == str(lax), "a workspace cannot weaken what is reviewed"
    (place.root / ".git").mkdir()
    assert trust_of(place).where == str(lax), "nor by being a repository of its own"
    (place.locks / "trust.json").write_text('{"format": "lanelock.trust/1", "keys": [], "aliases": {}}')
    assert trust_for(lock, place).where == str(lax)


def test_what_the_package_ships_is_judged_by_the_trust_that_it_ships(place, lock, keys, tmp_path, monkeypatch):
    monkeypatch.setattr("lanelock.sweeps.proof.trust.ROOT", tmp_path / "package")
    shipped = tmp_path / "package" / "queue" / "locks" / lock.name
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes(lock.read_bytes())
    sign(shipped, keys["eve"])
    trusted(keys, place)
    assert signatures_text(shipped, trust_for(shipped, place)).endswith("(trust.json does not name it)")
    entry = {"name": "demonstration", "public": keys["eve"].public, "roles": ["maker"]}
    document = {"format": "lanelock.trust/1", "keys": [entry], "aliases": {}}
    (shipped.parent.parent / "trust.json").write_text(json.dumps(document))
    assert signatures_text(shipped, trust_for(shipped, place)) == "signed by demonstration (maker)"
    found = promote(shipped, "candidate", place, key=keys["ada"])
    assert "signed by nobody of that role" in found.refusals[0], "to promote takes the workspace's own trust"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda trust: trust.update(note="hi"), "unknown field note"),
        (lambda trust: trust["keys"][0].update(public="ff"), "/keys/0/public"),
        (lambda trust: trust["keys"][0].update(name="a b"), "/keys/0/name"),
        (lambda trust: trust["keys"][0].update(admin=True), "unknown field admin"),
        (lambda trust: trust["aliases"]["candidate"].update(signatures=0), "/aliases/candidate/signatures"),
        (lambda trust: trust["aliases"]["candidate"].pop("maker_may_approve"), "missing field maker_may_approve"),
        (lambda trust: trust["aliases"].update(production={}), "production"),
        (lambda trust: trust.update(moves={"count": 1}), "/moves: missing field newest"),
    ],
)
def test_a_trust_that_is_not_one_is_refused_in_one_line(place, lock, keys, here, change, said):
    trusted(keys, place)
    changed(place.trust, change)
    for command in (("status",), ("promote", lock, "--to", "candidate")):
        refused(here(*command, workspace=place.root), str(place.trust), said)


def test_the_moves_of_a_trust_are_read(place, keys):
    trusted(keys, place)
    changed(place.trust, lambda trust: trust.update(moves={"count": 2, "newest": "0" * 64}))
    assert read_trust(place.trust).moves == Head(2, "0" * 64)
    with pytest.raises(LanelockError, match="it is missing"):
        moves(place)
