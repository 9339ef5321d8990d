"""The checks of a phase's checklist: what `done_when` of a campaign's file may ask before a phase closes.

Each check is one function with the kinds of phases that it is for. It looks at what was played and at the files that
prove it, and returns whether it holds together with its witness: a file, a digest, a number. A check that does not hold
stops the campaign at its phase until it does, or until somebody waives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import PolicyError
from lanelock.policies.documents import read_json
from lanelock.policies.names import inside
from lanelock.scoring.gates import GateSet, Severity
from lanelock.scoring.scorecard import GateResult
from lanelock.sweeps.campaign.records import CANDIDATE, Checked, Performance, PhaseRecord
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.text import one_line
from lanelock.sweeps.perf.comparisons import read
from lanelock.sweeps.proof.evidence import CERTIFICATION, REPORT, check_files
from lanelock.sweeps.proof.freezes import Freeze
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.runtime_locks import RuntimeLock, newest
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.workspace import Workspace

AUTHORITY_PHASE, LANE, CERTIFY, QUESTION, FREEZE = "authority", "lane", "certify", "question", "freeze"
PERFORMANCE = "performance"
_NOTHING_NEW = "nothing new goes on: the phase passes on what it started from"


@dataclass(frozen=True, slots=True)
class Closing:
    """A phase that was played and is about to close, and where its proofs lie."""

    run: str
    record: PhaseRecord
    document: Mapping[str, Any]  # the phase in the campaign's file
    campaign: Mapping[str, Any]  # the campaign's file
    gates: GateSet
    workspace: Workspace

    @property
    def lock(self) -> Path | None:
        """The file of the lock that its sweep left; None without a sweep."""
        return None if self.record.lock is None else inside(self.workspace.locks, self.record.lock)

    @property
    def evidence(self) -> Path | None:
        """The folder of the evidence that its certification left; None if there was nothing to certify."""
        graded = self.record.graded
        return None if graded is None else inside(self.workspace.evidence, graded.evidence)


Seen = tuple[bool, str]  # whether it holds, and its witness


@dataclass(frozen=True, slots=True)
class Check:
    """A check, and the kinds of phases that it is for."""

    name: str
    kinds: tuple[str, ...]
    look: Callable[[Closing], Seen]

    @property
    def what(self) -> str:
        """What it asks, in one sentence."""
        return str(self.look.__doc__).partition("\n")[0]

    def evaluated(self, closing: Closing) -> Checked:
        """Returns whether it holds. What is missing does not; what was changed raises IntegrityError."""
        try:
            ok, witness = self.look(closing)
        except PolicyError as error:
            ok, witness = False, one_line(str(error))
        return Checked(self.name, ok, witness)


CHECKS: dict[str, Check] = {}


def _check(*kinds: str) -> Callable[[Callable[[Closing], Seen]], Callable[[Closing], Seen]]:
    def register(look: Callable[[Closing], Seen]) -> Callable[[Closing], Seen]:
        CHECKS[look.__name__] = Check(look.__name__, kinds, look)
        return look

    return register


@_check(AUTHORITY_PHASE, LANE, CERTIFY, QUESTION, PERFORMANCE)
def decided(closing: Closing) -> Seen:
    """The decision is recorded with its name, its reason and the phase that follows."""
    record = closing.record
    return bool(record.decision and record.reason and record.next), f"{record.decision}, so that {record.next} follows"


@_check(AUTHORITY_PHASE)
def pinned(closing: Closing) -> Seen:
    """The authority's run is pinned on every seed: run id, world, pack, code, and the seconds of its states."""
    pins = closing.record.pinned or {}
    missing = [seed for seed in closing.campaign["seeds"] if seed not in pins or not all(_tokens(pins[seed]))]
    runs = ", ".join(f"seed {seed}: run {pin.run_id[:12]}" for seed, pin in pins.items())
    return not missing, f"not on seed {missing[0]}" if missing else runs


def _tokens(pin: Any) -> tuple[str, ...]:
    return pin.run_id, pin.manifest_fingerprint, pin.parameter_hash, pin.code_version


@_check(LANE)
def locked(closing: Closing) -> Seen:
    """The sweep left a lock with the candidate, accepted or terminal; a refusal leaves its proof instead."""
    if closing.lock is None:
        return _refused(closing)
    return True, f"{closing.lock.name}, id {Lock.read(closing.lock).lock_id}"


@_check(LANE)
def replayed(closing: Closing) -> Seen:
    """The lock verifies: its candidate runs again to the same digests, metrics and decision on every seed."""
    if closing.lock is None:
        return _refused(closing)
    findings = verify_lock(closing.lock, workspace=closing.workspace)
    differ = [check.name for check in findings if not check.ok]
    return findings.ok, f"{len(findings)} checks, {len(differ)} differ" + (f": {differ[0]}" if differ else "")


@_check(LANE)
def rails_hold(closing: Closing) -> Seen:
    """Every rail and veto of the lane holds for a candidate that goes on."""
    if closing.record.carried != CANDIDATE or closing.lock is None:
        return True, _NOTHING_NEW
    rows = [
        row for row in _card(Lock.read(closing.lock), closing.lock) if row.severity in (Severity.RAIL, Severity.VETO)
    ]
    return _all_hold(rows, f"{len(rows)} rails and vetoes hold")


@_check(LANE)
def gates_hold(closing: Closing) -> Seen:
    """The gates in `hold`, or all that the lane grades, meet its accept band for a candidate that goes on."""
    if closing.record.carried != CANDIDATE or closing.lock is None:
        return True, _NOTHING_NEW
    lock = Lock.read(closing.lock)
    rows, band = _card(lock, closing.lock), lock.lane_document["decision"]["accept_band"]
    named = closing.document.get("hold", [row.id for row in rows if row.severity is Severity.GATE])
    chosen = [row for row in rows if row.id in named]
    return _all_hold(chosen, f"{', '.join(row.id for row in chosen)} hold {band}", band)


@_check(LANE)
def floors(closing: Closing) -> Seen:
    """The record states every floor of the campaign for the authority, and for the candidate where there is one."""
    rows = {floor.metric: floor for floor in closing.record.floors}
    asked = closing.campaign.get("floors", ())
    if lacking := [name for name in asked if name not in rows or not rows[name].authority]:
        return False, f"{lacking[0]} is not measured"
    if not asked:
        return False, "the campaign's file names no floors"
    return True, "; ".join(f"{name} {_worst(rows[name])}" for name in asked)


def _worst(floor: Any) -> str:
    sides = [f"{max(side.values()):.6f}" for side in (floor.authority, floor.candidate) if side]
    return " -> ".join(sides)


@_check(LANE)
def single_attempt(closing: Closing) -> Seen:
    """The lane allows a single attempt, and its sweep is the only one of this run from its authority."""
    tried = closing.record.tried
    if tried is None or tried.swept is None:
        return _refused(closing)
    allowed = tried.lane.get("attempts")
    return (
        allowed == 1,
        f"{tried.swept.sweep}, {tried.swept.trials} trials; attempts allowed: {allowed or 'any number'}",
    )


@_check(LANE)
def whole_run(closing: Closing) -> Seen:
    """The lock states that its candidate ran to the engine's last state on every seed, audited and bundled."""
    if closing.lock is None:
        return _refused(closing)
    whole = Lock.read(closing.lock).whole
    failed = [seed for seed, run in whole.items() if run.audit is False]
    bundles = ", ".join(f"seed {seed}: bundle {run.bundle[:12]}" for seed, run in whole.items())
    return bool(whole) and not failed, f"audit failed on seed {failed[0]}" if failed else bundles or "no whole run"


@_check(CERTIFY)
def evidence(closing: Closing) -> Seen:
    """The evidence pack is whole: every file of its index is there with its digest."""
    if closing.evidence is None:
        return False, "nothing was certified"
    check_files(closing.evidence)
    return True, closing.evidence.name


@_check(CERTIFY)
def scorecard_pair(closing: Closing) -> Seen:
    """The scorecards of the certification lie there as JSON and, for people, as Markdown."""
    if closing.evidence is None:
        return False, "nothing was certified"
    missing = [name for name in (CERTIFICATION, REPORT) if not (closing.evidence / name).is_file()]
    return (
        not missing,
        f"{missing[0]} is missing" if missing else f"{closing.evidence.name}: {CERTIFICATION} and {REPORT}",
    )


@_check(LANE)
def lock_pair(closing: Closing) -> Seen:
    """The lock lies there as JSON and, for people, as Markdown beside it."""
    return _refused(closing) if closing.lock is None else _pair(closing.lock)


@_check(PERFORMANCE)
def measured(closing: Closing) -> Seen:
    """Every state has its seconds, and the file of the baseline or of the comparison is there."""
    found, path = _performance(closing), _file(closing)
    seconds = ", ".join(f"{cost.state} {cost.seconds:.3f} s" for cost in found.costs)
    return bool(found.costs) and path.is_file(), f"{path.name}: {seconds}"


@_check(PERFORMANCE)
def ranked(closing: Closing) -> Seen:
    """The hot spots are ranked by seconds, with the functions that take them as evidence."""
    spots = read_json(_file(closing)).get("hot_spots", ())
    named = [f"{row['state']} {row['share']:.0%}" for row in spots]
    evidence = [row["state"] for row in spots if row["functions"]]
    return bool(evidence), ", ".join(named[:3]) or "nothing is ranked"


@_check(PERFORMANCE)
def targets(closing: Closing) -> Seen:
    """A target and a limit are pinned for every state."""
    costs = _performance(closing).costs
    without = [cost.state for cost in costs if cost.limit_s is None]
    pinned = ", ".join(
        f"{cost.state} {cost.target_s:g}/{cost.limit_s:g} s {cost.colour}" for cost in costs if cost.limit_s
    )
    return not without, f"{without[0]} has none" if without else pinned


@_check(PERFORMANCE)
def replay(closing: Closing) -> Seen:
    """Every round gave the same bytes, and the published run replays to the same files."""
    return _rail("replay", closing)


@_check(PERFORMANCE)
def audited(closing: Closing) -> Seen:
    """The engine's audit of its own run passed."""
    return _rail("audit", closing)


@_check(PERFORMANCE)
def no_regression(closing: Closing) -> Seen:
    """Every rail holds, and no state got materially slower without an explained cause."""
    found = read(_file(closing)).derived
    return found.holds, "; ".join(
        f"{rail.rail}: {rail.witness}" for rail in found.rails
    ) if found.holds else found.reason


@_check(PERFORMANCE)
def runtime_locked(closing: Closing) -> Seen:
    """The runtime lock was written, and is not changed."""
    found = _performance(closing)
    if found.lock is None:
        return False, "no runtime lock was written"
    lock = RuntimeLock.read(inside(closing.workspace.runtime_locks, f"{found.lock}.json"))
    return lock.runtime_id == found.runtime_id, f"{lock.name}, id {lock.runtime_id}"


def _performance(closing: Closing) -> Performance:
    found = closing.record.performance
    if found is None:
        raise PolicyError("nothing was measured")
    return found


def _file(closing: Closing) -> Path:
    return inside(closing.workspace.perf, str(_performance(closing).file))


def _rail(name: str, closing: Closing) -> Seen:
    rails = {rail.rail: rail for rail in read(_file(closing)).derived.rails}
    return rails[name].ok, rails[name].witness


@_check(AUTHORITY_PHASE, LANE, CERTIFY)
def runtime(closing: Closing) -> Seen:
    """The phase took no longer than is allowed, its candidate holds the lane's limit, and locked code is unchanged."""
    frozen = newest(closing.workspace, closing.campaign["engine"])
    if frozen is not None and (drift := frozen.drift(engine_named(frozen.engine))):
        return False, drift
    swept = None if closing.record.tried is None else closing.record.tried.swept
    if swept is not None and swept.runtime is not None and not swept.runtime.holds:
        return False, f"the candidate takes {swept.runtime.ratio:.2f} times what the authority takes"
    limit = _seconds_allowed(closing)
    code = "" if frozen is None else f"; the code is as {frozen.name} froze it"
    return closing.record.seconds <= limit, f"{closing.record.seconds:.1f} s of at most {limit:g} s{code}"


def _seconds_allowed(closing: Closing) -> float:
    """Returns the seconds that a phase may take: its lane's budget, or the minutes of the profile of its seeds."""
    tried = closing.record.tried
    if tried is not None:
        return float(tried.lane["budget"]["seconds"])
    if (name := closing.document.get("profile")) is not None:
        return 60.0 * closing.gates.profile(name).minutes
    profile = closing.gates.profile_of(closing.document.get("seeds", closing.campaign["seeds"]))
    if profile is None:
        raise PolicyError(
            f"gates {closing.gates.document['id']}: no profile has these seeds and says how long they may take"
        )
    return 60.0 * profile.minutes


@_check(AUTHORITY_PHASE, LANE, CERTIFY, PERFORMANCE)
def pruned(closing: Closing) -> Seen:
    """What nothing refers to was pruned before the phase was played, and the summary lies there."""
    summary = closing.record.pruned
    if summary is None:
        return False, "nothing was pruned before it was played"
    return inside(closing.workspace.prunes, summary).is_file(), summary


@_check(QUESTION)
def answered(closing: Closing) -> Seen:
    """The answer is recorded with who gave it, when and why."""
    answer = closing.record.answered
    return answer is not None, "no answer" if answer is None else f"{answer.answer}, by {answer.ruling}"


@_check(FREEZE)
def frozen_lock(closing: Closing) -> Seen:
    """The freeze left a lock of its own, which is not changed."""
    end = closing.record.end
    if end is None or end.freeze is None:
        return False, "no lock of the freeze was written"
    path = inside(closing.workspace.freezes, f"{closing.run}.json")
    return Freeze.read(path).freeze_id == end.freeze, f"{path.name}, id {end.freeze}"


def _refused(closing: Closing) -> Seen:
    """Returns what stands instead of a lock where no trial was run."""
    record = closing.record
    return record.outcome == "REFUSED", f"{record.outcome} without a trial: {one_line(record.reason)}"


def _card(lock: Lock, path: Path) -> tuple[GateResult, ...]:
    return lock.card(lock.lane(str(path))).gates


def _all_hold(rows: list[GateResult], witness: str, band: str | None = None) -> Seen:
    failed = [row for row in rows if not (row.full if band is None else row.passed.get(band, row.full))]
    if not failed:
        return True, witness
    first = failed[0]
    return (
        False,
        f"{first.id}: {first.value} {first.comparison} {next(iter(first.thresholds.values()), None)} does not hold",
    )


def _pair(path: Path) -> Seen:
    """Returns whether a document's file and the page beside it are there."""
    missing = [side.name for side in (path, path.with_suffix(".md")) if not side.is_file()]
    return not missing, f"{missing[0]} is missing" if missing else f"{path.name} and {path.with_suffix('.md').name}"
