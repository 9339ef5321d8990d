"""The notes and common tags in tracking: of a lane on its experiment, of sweeps and trials on their runs.

A note is Markdown for MLflow's page, which shows its first line until it is unfolded. `$EXPERIMENT`, `$RUN` and
`$PARENT` are placeholders for ids that only the server knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.figures.sides import asked
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import GateResult, Scorecard
from lanelock.sweeps.decision.decision import Decision
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.pages.text import one_line, short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.provenance import here
from lanelock.sweeps.record.views import FIRST_VIEW, PAGE, WHY_NOT, address, views

NOTE = "mlflow.note.content"  # the tag that the page shows as a description
_SHOWN = 6  # gates in a trial's note
_LONGEST = 160  # characters of what a trial lacks


def experiment_tags(
    ground: Ground, vetoes: Sequence[str], at_ms: int, *, reserved: float | None = None, ranked: bool = False
) -> dict[str, str]:
    """Returns the tags of a lane's experiment; the arguments are those of `views`."""
    return {
        "lanelock.title": ground.lane.title,
        "mlflow.experimentKind": "custom_model_development",
        NOTE: of_lane(ground.lane),
        **views(ground, vetoes, at_ms, reserved=reserved, ranked=ranked),
    }


def decision_tags(outcome: str, verdict: str, because: str) -> dict[str, str]:
    """Returns the tags of a decision, on the run of a sweep or of a refusal."""
    return {
        "lanelock.decision": outcome,
        "lanelock.verdict": verdict,
        "lanelock.reason": because[:5000],  # what MLflow takes
    }


def source_tags(lane: Lane) -> dict[str, str]:
    """Returns the tags by which MLflow shows the command, the commit and the user that made a run."""
    made = here()
    commit = {} if made.git is None else {"mlflow.source.git.commit": made.git, "lanelock.diff": made.diff or "none"}
    source = {"mlflow.source.name": f"lanelock sweep {lane.id}", "mlflow.source.type": "LOCAL"}
    return {**source, **commit, "mlflow.user": made.user, "lanelock.version": made.lanelock}


def of_lane(lane: Lane) -> str:
    """Returns a lane's note: what it may change, the views, and how to search."""
    document = lane.document
    links = " · ".join(
        f"[{word}]({address(view, '$EXPERIMENT')})"
        for word, view in (
            ("Candidates", FIRST_VIEW),
            ("Every trial", "lanelock-trials"),
            ("Ended early", "lanelock-vetoed"),
            ("Sweeps", "lanelock-sweeps"),
            ("Charts", "lanelock-charts"),
        )
    )
    budget = document["budget"]
    return "\n".join([
        f"**{lane.title}** · {links}\n",
        f"{document['why']}\n",
        f"From pack `{document['authority']}` a trial of this lane may touch, and nothing else:\n",
        *(f"- **{knob.name}**: `{knob.fields_text}` in {knob.range_text()}" for knob in lane.knobs),
        *(f"- derived: `{row.at}` = `{row.expression}`" for row in lane.derived),
        *(f"- fixed: `{at}` = `{value}`" for at, value in document["fixed"].items()),
        f"\nSeeds {', '.join(map(str, lane.seeds))}. Budget {budget['trials']} trials or {budget['seconds']} s. "
        f"It closes GO if a trial meets band {document['decision']['accept_band']} on every seed without a veto.\n",
        "A plain metric is the worst over the seeds; `seed_N/` holds what seed N measured. The dot before a run says "
        "its verdict: green the highest band, blue a lower one, orange failed, grey vetoed or stopped, violet not "
        "graded. Trials are ranked when their sweep closes, in the order of its decision: the locked trial has a star "
        f"and stands first, and `{WHY_NOT}` says of every other what it lacks. The page loads 100 runs; the last line "
        "of its table loads more. To search, for example:\n",
        "```",
        *_examples(lane),
        "```",
    ])  # fmt: skip


def of_trial(card: Scorecard, lane: Lane, trial: Trial) -> str:
    """Returns a trial's note: its verdict, what ended it, the gates nearest to their thresholds, and its changes."""
    if trial.failed:
        return "\n".join([f"**FAILED** · {trial.record.failure}\n", *_changes(lane, trial)])
    band = lane.gates.bands[-1]
    failed = [row for row in card.gates if not row.full]
    failed.sort(key=lambda row: not row.severity.ends_trial)
    graded = [row for row in card.gates if row.severity is Severity.GATE and row.margins.get(band) is not None]
    graded.sort(key=lambda row: row.margins[band] or 0.0)
    head = [f"**{card.verdict}**"]
    head += [f"vetoed by {', '.join(f'`{name}`' for name in card.vetoed)}"] if card.vetoed else []
    head += [f"worst margin {graded[0].margins[band]:.4g} at `{graded[0].id}` ({band})"] if graded else []
    head += [f"not run on every seed, since it is behind: {trial.record.stopped}"] if trial.record.stopped else []
    head += [f"measured by `{trial.record.source}`, not run again"] if trial.record.source else []
    head += [f"[its sweep]({_run('$PARENT')})", f"[its lock]({_artifact('$PARENT', 'lock.json')})"]
    near = [row for row in graded if row not in failed]
    lines = [f"- {'**fails**' if row in failed else 'holds'} {_gate(row)}" for row in [*failed, *near][:_SHOWN]]
    return "\n".join([f"{' · '.join(head)}\n", *lines, *_changes(lane, trial)])


def why_not(card: Scorecard, trial: Trial) -> str:
    """Returns what a trial lacks: its failure, the gate that comes first and by how much, or "none"."""
    if trial.failed:
        return short(one_line(f"failed: {trial.record.failure}"), _LONGEST)
    failing = [row for row in card.gates if not row.full]
    if failing:
        row = min(failing, key=_comes_first)
        missed = next(band for band, passed in row.passed.items() if not passed)
        kind = missed if row.severity is Severity.GATE else row.severity
        margin = row.margins.get(missed)
        return f"{row.id}: {'not measured' if margin is None else f'margin {margin:.3g}'} ({kind})"
    return short(one_line(f"behind: {trial.record.stopped}"), _LONGEST) if trial.record.stopped else "none"


def _comes_first(row: GateResult) -> tuple[bool, bool, int, float]:
    """Sorts failing gates: what forbids a grade, then what ends a trial, then the lowest band, by the least margin."""
    return row.severity is not Severity.PRECONDITION, not row.severity.ends_trial, row.level, row.worst_margin


def _changes(lane: Lane, trial: Trial) -> list[str]:
    moved = [f"- `{at}`: {_code(before)} → {_code(after)}" for at, (before, after) in lane.moved(trial.values).items()]
    return [f"\nChanged from authority `{lane.authority.name}`:\n", *(moved or ["- nothing"])]


def files(names: Iterable[str]) -> str:
    """Returns links to the files of a run, one per line."""
    return "\n" + "\n".join(f"- [{name}]({_artifact('$RUN', name)})" for name in names)


def of_sweep(
    decision: Decision, lock: Lock, kept: Iterable[str], pictures: Iterable[str], compared: Mapping[str, str]
) -> str:
    """Returns a sweep's note: how it closed, its best trial, its lock, its files and pictures.

    `compared`: what its best trial is compared with -> the page that does.
    """
    best = decision.best
    lines = [f"**{decision.outcome}** · {decision.verdict} · {decision.reason}\n"]
    if best is not None:
        knobs = ", ".join(f"{name} = {in_short(value)}" for name, value in lock.knobs.items())
        lines.append(f"- best: [trial {best.number}]({_run('$BEST')}) with {knobs}")
    if compared:
        links = (f"[{what}]({_artifact('$RUN', page)})" for what, page in compared.items())
        lines.append(f"- compared: its best trial with {', with '.join(links)}")
    lock_link = f"[`{lock.short_id}`]({_artifact('$RUN', 'lock.json')})"
    lines.append(f"- lock: {lock_link}, {lock.candidate}; prove it again: `lanelock verify {lock.short_id}`")
    lines.append(f"- [its lane's candidates, best first]({address(FIRST_VIEW, '$EXPERIMENT')})")
    return "\n".join(lines) + files(kept) + shown(pictures)


def of_refusal(refused: Decision, reach: Iterable[GateReach]) -> str:
    """Returns a refusal's note: why the lane was not played, and the best value that each gate can reach."""
    bounds = (f"- `{row.gate}` at best {row.bound:.6g}: {row.proof}" for row in reach if row.bound is not None)
    return "\n".join([f"**{refused.outcome}** · {refused.reason}\n", *bounds])


def shown(pictures: Iterable[str]) -> str:
    """Returns pictures of a run, one below the other; the page loads them from the run's artifacts."""
    return "".join(f"\n\n![{path}](get-artifact?path={path}&run_uuid=$RUN)" for path in pictures)


def of_locked(lock: Lock) -> str:
    """Returns the start of the note of a locked trial."""
    return (
        f"Locked as **{lock.candidate}** ({lock.decision}) in "
        f"[`{lock.short_id}`]({_artifact('$PARENT', 'lock.json')})\n\n"
    )


def of_version(lock: Lock, tags: Mapping[str, str]) -> str:
    """Returns a registered version's note: its verdict, lock, run, knobs and evidence."""
    link = _artifact("$RUN", f"$MODEL/data/{lock.lock_id}/lock.json")
    knobs = ", ".join(f"`{name}` = {in_short(value)}" for name, value in lock.knobs.items())
    profile = f", profile {tags['lanelock.profile']}" if "lanelock.profile" in tags else ""
    lines = [
        f"**{tags['lanelock.verdict']}**{profile} · lock [`{lock.short_id}`]({link})"
        f" · run [{lock.sweep}]({_run('$RUN')})\n",
        f"- {lock.decision} in lane `{lock.lane_document['id']}` ({lock.lane_document['title']}): {lock.because}",
        f"- knobs: {knobs or 'none moved'}",
    ]
    evidence = tags["lanelock.evidence"]
    if evidence != "none":
        lines.append(f"- certified: [`{evidence}`]({_artifact('$RUN', f'evidence/{evidence}/report.html')})")
    if tags["lanelock.claim"] != "none":
        lines.append(f"- {tags['lanelock.claim']}")
    return "\n".join([*lines, f"- prove it again: `lanelock verify {lock.short_id}`"])


def in_short(value: Value) -> str:
    """Returns a knob's value, rounded for a reader; the pack has every digit."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _run(run: str) -> str:
    return f"#/experiments/$EXPERIMENT/runs/{run}{PAGE}"


def _artifact(run: str, name: str) -> str:
    return f"#/experiments/$EXPERIMENT/runs/{run}/artifacts/{name}{PAGE}"


def _gate(row: GateResult) -> str:
    value = "was not measured" if row.value is None else short(row.value)
    on = "" if row.seed is None else f" on seed {row.seed}"
    return f"`{row.id}` ({row.severity}): {value}{on}, asked {asked(row.comparison, row.thresholds)}"


def _code(value: Any) -> str:
    """Returns a policy's value as code, so that the page does not read it as Markdown."""
    text = short(value).replace("`", "'")
    return f"`{text}`"


def _examples(lane: Lane) -> Iterator[str]:
    first = lane.objectives[0]
    for band in lane.gates.bands[::-1]:
        yield f"tags.lanelock.verdict = '{lane.gates.of_band(band)}'"
    reserve = lane.document["decision"].get("margin_reserve", 0)
    yield f"tags.lanelock.state = 'complete' and metrics.`{first.name}` {'>' if first.maximize else '<'} {reserve}"
    ending = next((gate.id for gate in lane.gates.gates if gate.severity.ends_trial), None)
    if ending is not None:
        yield f"tags.lanelock.vetoed LIKE '%{ending}%'"
    yield "tags.lanelock.lock != ''"
