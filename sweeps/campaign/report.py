"""The report of a closed campaign, in the order of a closure record: the end, the table, each phase, the proof.

Everything is derived from the phase records. If the campaign names the record of an earlier cycle, its candidates are
run again and stand beside this campaign's; only that record's own numbers and reasons were written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lanelock.policies import Pack, diff
from lanelock.policies.names import inside
from lanelock.scoring.gates import Severity, threshold_text
from lanelock.scoring.scorecard import score
from lanelock.sweeps.campaign.floors import floors, write_floors
from lanelock.sweeps.campaign.phases import measured
from lanelock.sweeps.campaign.plan import PERFORMANCE, Campaign
from lanelock.sweeps.campaign.play import Standing
from lanelock.sweeps.campaign.records import CANDIDATE, Answered, Floor, Graded, Performance, PhaseRecord, Pinned, Tried
from lanelock.sweeps.campaign.triggers import Trigger
from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, as_html, as_markdown, table
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.perf.gains import ALL
from lanelock.sweeps.proof.certificate import grades
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.trail import Note, notes, trail
from lanelock.sweeps.workspace import Workspace, writing

HEAD = ("phase", "decision", "trials", "seconds", "why")
REPORTS = ("report.md", "report.html")  # in the folder of the campaign's run
SHOWN = 12  # fields of a pack difference that are named
_WIDE = "body{max-width:100rem}"  # the table beside the record, with its outcomes


def write_report(standing: Standing, folder: Path, noted: tuple[Note, ...] = ()) -> tuple[Path, Path]:
    """Writes report.md and report.html into the campaign's folder and returns their paths."""
    blocks = tuple(report(standing, noted))
    texts = dict(zip(REPORTS, (as_markdown(blocks), as_html(standing.campaign.title, blocks, _WIDE)), strict=True))
    with writing(folder):
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    write_floors(floors(standing.run, standing.campaign.document, standing.records), folder)
    return folder / REPORTS[0], folder / REPORTS[1]


def notes_on(standing: Standing, workspace: Workspace) -> tuple[Note, ...]:
    """Returns the notes on a campaign's run, on its sweeps and on the locks that it passed on."""
    holders = [record.holder for record in standing.records if record.holder is not None]
    locks = {Lock.read(inside(workspace.locks, holder.lock)).lock_id for holder in holders if holder.lock is not None}
    names = {standing.run, *locks}
    return notes(workspace, lambda on: on is not None and (on.name in names or on.name.startswith(f"{standing.run}.")))


def report(standing: Standing, noted: tuple[Note, ...] = ()) -> Iterator[Block]:
    """Yields the page of a campaign that was played to its freeze."""
    campaign, records = standing.campaign, standing.records
    end = records[-1]
    yield Heading(1, campaign.title)
    yield Paragraph(f"{end.ending}: {end.reason}.")
    minutes = sum(record.seconds for record in records) / 60
    yield Paragraph(f"{campaign.document['why']} Run {standing.run}: {len(records)} phases in {minutes:.1f} minutes.")
    yield Heading(2, "What was decided")
    yield table(HEAD, map(line, records))
    if end.waivers:
        yield Heading(2, "What was waived")
        yield Points(end.waivers)
    if "record" in campaign.document:
        yield from _beside_the_record(campaign, records)
    for row in records:
        yield from _phase(campaign, row)
    yield from trail(noted)
    yield Heading(2, "Proof")
    holders = [record.holder for record in records if record.carried == CANDIDATE and record.holder is not None]
    locks = [holder.lock.removesuffix(".json") for holder in holders if holder.lock is not None]
    evidence = [record.graded.evidence for record in records if record.graded is not None]
    proofs = dict.fromkeys([*locks, *evidence])
    yield Points(tuple(f"lanelock verify {name}" for name in proofs) or ("no lock was carried on",))


def line(record: PhaseRecord) -> tuple[str, ...]:
    """Returns a phase as a table row under HEAD."""
    trials = "–" if record.trials is None else str(record.trials)
    return record.title, _decision(record), trials, f"{record.seconds:.1f}", record.reason


def _decision(record: PhaseRecord) -> str:
    """Returns a phase's outcome and the name of its decision, in which the outcome may stand already."""
    name = record.decision or record.ending
    return name if name.startswith(record.outcome) else f"{record.outcome}: {name}"


# --- beside the record ----------------------------------------------------------------------------------


def _beside_the_record(campaign: Campaign, records: tuple[PhaseRecord, ...]) -> Iterator[Block]:
    record, seed = campaign.document["record"], campaign.seeds[0]
    done = {played.phase: played for played in records}
    columns = record["columns"]
    here = {phase: measured(campaign, pack, seed) for phase, pack in campaign.recorded.items()}
    yield Heading(2, "Beside the record")
    yield Paragraph(
        f"{record['title']}, phase by phase: what it states, what its own candidate measures here on seed {seed} "
        f"(where its policies are known), and what this campaign's candidate measures on seed {seed}."
    )
    lines: list[tuple[str, ...]] = []
    ends = [row for row in record["rows"] if campaign.phases[row["phase"]].kind == "freeze"]
    timed = [row for row in record["rows"] if campaign.phases[row["phase"]].kind == PERFORMANCE]
    for row in (row for row in record["rows"] if row not in ends and row not in timed):
        lines += _lines(row, done.get(row["phase"]), here, columns, seed)
    known = {row["phase"] for row in record["rows"]}  # phases that the record does not have stand before the end
    others = (played for played in records if played.phase not in known and played.kind != PERFORMANCE)
    lines += [_line(played.title, played, columns, seed) for played in others]
    for row in ends:
        lines += _lines(row, done.get(row["phase"]), here, columns, seed)
    yield table(("phase", "", *columns.values(), "outcome"), lines)
    if timed:
        yield Heading(3, "What it takes")
        yield table(_TAKES, (_takes(row, done.get(row["phase"])) for row in timed))
        yield Paragraph("The recorded seconds are of the wall clock of another machine; those here are of this one.")
    yield Heading(3, "Why they differ")
    yield Points((record["world"], *_differences(campaign, done, here)))


_TAKES = ("phase", "state", "recorded, s", "recorded", "here, s of the processor", "wall, s", "times", "here")


def _takes(row: Mapping[str, Any], played: PhaseRecord | None) -> tuple[str, ...]:
    """Returns what a phase's state took in the record and takes here, and how many times more the record's end is."""
    seconds, found = row.get("seconds", {}), None if played is None else played.performance
    told = f"{seconds['before']:g} → {seconds['after']:g}" if seconds else ""
    if found is None or played is None:
        return row["label"], "", told, row["outcome"], "", "", "", "not played"
    costs = found.costs if found.focus == ALL else [cost for cost in found.costs if cost.state == found.focus]
    used, wall = sum(cost.seconds for cost in costs), sum(cost.wall_s for cost in costs)
    times = f"{seconds['after'] / wall:.1f}" if seconds and wall else ""
    return (
        row["label"], found.focus, told, row["outcome"], f"{used:.3f}", f"{wall:.3f}", times, _decision(played),
    )  # fmt: skip


def _outcome(played: PhaseRecord) -> str:
    """Returns a phase's outcome, and its verdict if it has one."""
    return f"{played.ending} ({played.verdict})" if played.verdict and played.end is None else played.ending


def _lines(
    row: Mapping[str, Any],
    played: PhaseRecord | None,
    here: Mapping[str, Mapping[str, float]],
    columns: Mapping[str, str],
    seed: int,
) -> Iterator[tuple[str, ...]]:
    """Yields a phase's numbers: as recorded, of the recorded candidate run here, and of this campaign's candidate."""
    yield (row["label"], "recorded", *_cells(columns, row["values"]), row["outcome"])
    if row["phase"] in here:
        yield ("", "its pack, here", *_cells(columns, here[row["phase"]]), "")
    yield _line("", played, columns, seed)


def _line(label: str, played: PhaseRecord | None, columns: Mapping[str, str], seed: int) -> tuple[str, ...]:
    values, outcome = ({}, "not played") if played is None else (_values(played, seed), _outcome(played))
    return (label, "this campaign", *_cells(columns, values), outcome)


def _values(played: PhaseRecord, seed: int) -> Mapping[str, float | str]:
    """Returns the metrics of a phase's candidate on a seed, or the bounds that forbid a refused lane."""
    if played.metrics:
        return played.metrics.get(seed, {})
    reach = () if played.tried is None else played.tried.reach or ()
    return {gate.metric: f"at best {gate.bound:.6f}" for gate in reach if not all(gate.reachable.values())}


def _cells(columns: Mapping[str, str], values: Mapping[str, float | str]) -> list[str]:
    cells = (values.get(name, "") for name in columns)
    return [cell if isinstance(cell, str) else f"{cell:.6f}" for cell in cells]


def _differences(
    campaign: Campaign, done: Mapping[str, PhaseRecord], here: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    for row in campaign.document["record"]["rows"]:
        phase, label, played = row["phase"], row["label"], done.get(row["phase"])
        if phase in here and (farthest := _farthest(campaign, row["values"], here[phase])):
            yield f"{label}: its recorded policies, run here, come to {farthest} at most: what the worlds differ in."
        if phase in here:
            yield from _artifacts(campaign, label, here[phase])
        if played is None:
            yield f"{label}: not played, since no branch led there."
        elif played.end is not None:
            beside = "as the record" if played.ending == row["outcome"] else f"the record {row['outcome']}"
            yield f"{label}: {played.ending}, {beside}: {played.reason}."
        elif played.outcome == "REFUSED":
            yield f"{label}: the record closed it {row['outcome']}; here it is {played.reason}."
        elif phase in campaign.recorded and played.tried is not None and played.holder is not None:
            yield from _fields(campaign, label, campaign.recorded[phase], played)
        elif phase not in here and played.metrics:
            yield _unknown(campaign, row, played, played.metrics[campaign.seeds[0]])


def _unknown(campaign: Campaign, row: Mapping[str, Any], played: PhaseRecord, metrics: Mapping[str, float]) -> str:
    """Compares the record's numbers with this campaign's candidate; the recorded policies are not known."""
    farthest = _farthest(campaign, row["values"], metrics)
    closed = f"{played.outcome}: {played.reason}"
    if farthest is None:
        return f"{row['label']}: the record has no number of it ({row['outcome']}); here it was played, {closed}."
    return f"{row['label']}: its policies are not on record; this campaign's candidate comes to {farthest} at most."


def _farthest(campaign: Campaign, stated: Mapping[str, float | str], measures: Mapping[str, float]) -> str | None:
    """Returns the number that differs most from the record's; None if the record has no number."""
    columns = campaign.document["record"]["columns"]
    pairs = [
        (columns[name], was, measures[name])
        for name, was in stated.items()
        if not isinstance(was, str) and name in measures
    ]
    if not pairs:
        return None
    name, was, now = max(pairs, key=lambda pair: abs(pair[1] - pair[2]))
    return f"{name} {now:.6f} against {was:.6f}, a difference of {abs(was - now):.6f}"


def _artifacts(campaign: Campaign, label: str, metrics: Mapping[str, float]) -> Iterator[str]:
    """Yields the vetoes that the record's own candidate fails here."""
    card = score(metrics, campaign.gates, seed=None, authority=None)
    why = {gate.id: gate.why for gate in campaign.gates.gates}
    for row in card.gates:
        if row.severity is Severity.VETO and row.known and not row.full:
            threshold = next(iter(row.thresholds.values()))
            seen = f"{short(row.value)} {row.comparison} {threshold_text(threshold)} does not hold"
            yield f"{label}: its candidate fails {row.id} here, {seen}. {why[row.id]}"


def _fields(campaign: Campaign, label: str, recorded: Pack, played: PhaseRecord) -> Iterator[str]:
    """Yields the fields in which this campaign's candidate differs from the record's."""
    if played.carried != CANDIDATE or played.holder is None:
        return
    ours = played.holder.pack.opened(campaign.engine.policy_schemas, played.phase)
    changes = diff(recorded, ours)
    fields = ", ".join(f"{_field(row.pointer)} {short(row.before)} → {short(row.after)}" for row in changes[:SHOWN])
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    yield f"{label}: this campaign's candidate differs from the recorded one in {len(changes)} fields: {fields}{more}."


def _field(pointer: str) -> str:
    """Returns the end of a pointer, long enough to tell two fields apart."""
    return "/".join(pointer.split("/")[-3:])


# --- phase by phase -------------------------------------------------------------------------------------


def _phase(campaign: Campaign, played: PhaseRecord) -> Iterator[Block]:
    yield Heading(2, f"{played.title}: {played.ending}")
    if played.why:
        yield Paragraph(played.why)
    if played.answered is not None:
        yield from _answered(played.answered)
    if played.tried is not None:
        yield from _tried(played.tried)
        yield from _reach(played.tried)
    if played.metrics:
        yield from _measured(campaign, played, played.metrics)
    if played.pinned is not None:
        yield from _pinned(played.pinned)
    if played.performance is not None:
        yield from _performance(played.performance)
    if played.floors:
        yield from _floors(campaign, played.floors)
    if played.graded is not None:
        yield from _certified(played.graded, campaign.gates.bands)
    if played.checks:
        yield Heading(3, "Checklist")
        rows = (
            (row.check, row.state, row.witness, "" if row.waiver is None else str(row.waiver)) for row in played.checks
        )
        yield table(("check", "", "witness", "waived by"), rows)
    if played.triggers:
        yield Heading(3, "Conditions")
        conditions = ((row.rule, "holds" if row.holds else "does not hold", _seen(row)) for row in played.triggers)
        yield table(("condition", "", "what it saw"), conditions)
    yield Heading(3, "Decided")
    yield Paragraph(f"{_decision(played)}: {played.reason}.")
    if played.holder is not None and played.next is not None:
        what = "its candidate" if played.carried == CANDIDATE else "what it started from"
        pack = played.holder.pack.digest[:16]
        yield Paragraph(f"Carried on to {campaign.phases[played.next].title}: {what}, pack {pack}.")


def _seen(trigger: Trigger) -> str:
    return ", ".join(f"{name} {value if isinstance(value, str) else short(value)}" for name, value in trigger.shown)


def _answered(answered: Answered) -> Iterator[Block]:
    yield Heading(3, answered.asks)
    yield Points(tuple(f"{word}: {follows}" for word, follows in answered.consequences.items()))
    yield table(
        ("shown with it", "decision", "why"), ((row.phase, row.outcome, row.reason) for row in answered.findings)
    )
    yield Paragraph(f"Answered {answered.answer} by {answered.ruling}")


def _pinned(pinned: Mapping[int, Pinned]) -> Iterator[Block]:
    yield Heading(3, "Pinned")
    rows = (
        (str(seed), pin.run_id, pin.manifest_fingerprint, pin.parameter_hash, pin.code_version)
        for seed, pin in pinned.items()
    )
    yield table(("seed", "run", "manifest fingerprint", "parameter hash", "code"), rows)
    states = list(dict.fromkeys(state for pin in pinned.values() for state in pin.seconds))
    seconds = (
        (str(seed), *(f"{pin.seconds.get(state, 0.0):.3f}" for state in states), f"{pin.total_seconds:.3f}")
        for seed, pin in pinned.items()
    )
    yield table(("seconds on seed", *states, "total"), seconds)


def _performance(found: Performance) -> Iterator[Block]:
    yield Heading(3, "Cost")
    rows = (
        (cost.state, f"{cost.seconds:.3f} ({cost.low:.3f} to {cost.high:.3f})", f"{cost.wall_s:.3f}",
         "–" if cost.limit_s is None else f"{cost.target_s:g} / {cost.limit_s:g}", cost.colour)
        for cost in found.costs
    )  # fmt: skip
    yield table(("state", "processor, s", "wall, s", "target / limit, s", ""), rows)
    yield Paragraph(f"On {found.machine['processor']} with {found.machine['cores']} cores.")
    if found.lock is not None:
        yield Paragraph(f"Runtime lock: lanelock verify {found.lock}")


def _floors(campaign: Campaign, floors: tuple[Floor, ...]) -> Iterator[Block]:
    yield Heading(3, "Floors")
    rows = (
        (floor.metric, side, *(short(values.get(seed)) for seed in campaign.seeds))
        for floor in floors
        for side, values in (("authority", floor.authority), ("candidate", floor.candidate))
        if values is not None
    )
    yield table(("metric", "of", *(f"seed {seed}" for seed in campaign.seeds)), rows)


def _tried(tried: Tried) -> Iterator[Block]:
    lane, swept = tried.lane, tried.swept
    yield Heading(3, "Tried")
    trials = "no trial" if swept is None else f"{swept.trials} of {lane['budget']['trials']} trials"
    ended = {} if swept is None else swept.vetoes
    vetoes = ", ".join(f"{name} ended {count}" for name, count in ended.items()) or "none ended a trial"
    seeds = ", ".join(map(str, lane["seeds"]))
    yield Paragraph(f"Lane {lane['id']}, {lane['title']}: {trials} on seeds {seeds}; vetoes and rails: {vetoes}.")
    values = {} if swept is None else swept.values
    knobs = (
        (name, knob.at, " … ".join(map(short, knob.values)), short(values.get(name)))
        for name, knob in tried.knobs.items()
    )
    yield table(("knob", "field", "may be", "chosen"), knobs)


def _reach(tried: Tried) -> Iterator[Block]:
    """Yields, per gate of the lane, the bound, the best value found, and the gap between them."""
    if not tried.reach:
        return
    yield Heading(3, "What could be reached")
    best, lines = {} if tried.swept is None else tried.swept.best, []
    for gate in tried.reach:
        value, bound = best.get(gate.gate), gate.bound
        gap = "–" if value is None or bound is None else f"{abs(value - bound):.6f}"
        out = ", ".join(band for band, within in gate.reachable.items() if not within) or "none"
        lines.append((gate.gate, short(bound), short(value), gap, out, gate.proof, gate.movable_by))
    yield table(("gate", "bound", "best found", "gap", "bands out of reach", "proof", "movable by"), lines)


def _measured(campaign: Campaign, played: PhaseRecord, metrics: Mapping[int, Mapping[str, float]]) -> Iterator[Block]:
    yield Heading(3, "Measured")
    graded = dict.fromkeys(gate.metric for gate in campaign.gates.gates)
    rows = [
        (name, *(short(metrics[seed].get(name)) for seed in campaign.seeds))
        for name in graded
        if any(name in metrics[seed] for seed in campaign.seeds)
    ]
    yield table(("metric", *(f"seed {seed}" for seed in campaign.seeds)), rows)
    if played.changes:
        yield Paragraph(f"The candidate differs from what the phase started from in {len(played.changes)} fields.")
    if played.tried is not None and played.tried.swept is not None and (timed := played.tried.swept.runtime):
        yield Paragraph(
            f"Runtime beside the authority's, when the lane closed: {timed.candidate_seconds:.3f} s against "
            f"{timed.authority_seconds:.3f} s, {timed.ratio:.2f} times of at most {timed.at_most:g}."
        )


def _certified(graded: Graded, bands: tuple[str, ...]) -> Iterator[Block]:
    yield Heading(3, f"Certified: {graded.certification['verdict']}")
    yield from grades(graded.certification, bands)
    yield Paragraph(f"Evidence: lanelock verify {graded.evidence}")
