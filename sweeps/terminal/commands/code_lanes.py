"""`perf compare` and `perf lock`: two versions of an engine's code on one pack, and the one that is kept."""

from __future__ import annotations

import math
from typing import Any

import click

from lanelock.policies.errors import PolicyError
from lanelock.policies.names import inside
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.perf.code_lane import EQUAL, METRICS, OWN, SAME, Terms, compare
from lanelock.sweeps.perf.comparison_page import HEAD, RAILS, SAME_CODE, rails, rows
from lanelock.sweeps.perf.comparisons import find_comparison, read, store_next, unused_name
from lanelock.sweeps.perf.locking import lock_runtime
from lanelock.sweeps.proof.packs import find_pack
from lanelock.sweeps.proof.runtime_locks import STATUS, RuntimeLock
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say


def _odd(context: click.Context, parameter: click.Parameter, rounds: int) -> int:
    if rounds % 2 == 0:
        raise click.BadParameter("give an odd number, so that the median is one of the rounds")
    return rounds


class Share(click.FloatRange):
    """A number in a range, which NaN is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share: float = super().convert(value, param, ctx)
        if math.isnan(share):
            self.fail(f"{value} is not a number", param, ctx)
        return share


@click.command("compare")
@click.argument("pack", shell_complete=PACK)
@click.option(
    "--against",
    required=True,
    metavar="REF|WHEEL|FOLDER",
    help="The other side: a commit, a wheel, a folder or a Python.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 999),
    default=7,
    show_default=True,
    callback=_odd,
    help="Rounds that count; an odd number.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Seed of every run.")
@click.option(
    "--surfaces",
    type=click.Choice([EQUAL, METRICS]),
    default=EQUAL,
    show_default=True,
    help="Ask for the same bytes, or for the same metrics.",
)
@click.option(
    "--packs",
    type=click.Choice([SAME, OWN]),
    default=SAME,
    show_default=True,
    help="Whether the other side runs this very pack, or the pack of that name that it ships.",
)
@click.option(
    "--tolerance",
    type=Share(0, 1),
    default=1e-9,
    show_default=True,
    help="Of a metric, relative to its size or to 1.",
)
@click.option(
    "--allow",
    metavar="STATE,…",
    default="",
    help="States whose law was changed on purpose; what follows from them is not compared.",
)
@click.option("--explain", "explained", multiple=True, metavar="STATE=WHY", help="Why a state may be slower.")
@click.option(
    "--slower",
    "share",
    type=Share(0, 100),
    default=0.1,
    show_default=True,
    help="How much slower a state may get, as a share.",
)
@common_options
def compare_code(
    session: Session, pack: str, against: str, rounds: int, seed: int, surfaces: str, packs: str, tolerance: float,
    allow: str, explained: tuple[str, ...], share: float,
) -> int:  # fmt: skip
    """Compare this tree's code with another version of it on PACK: equal results first, then the seconds saved."""
    workspace = session.workspace()
    opened, engine = find_pack(pack, workspace)
    terms = Terms(
        rounds=rounds, seed=seed, surfaces=surfaces, packs=packs, tolerance=tolerance, slower_share=share,
        allowed=tuple(filter(None, allow.split(","))), explained=dict(map(_explanation, explained)),
    )  # fmt: skip
    name = unused_name(opened.name, workspace)

    def watch(turn: int, side: str) -> None:
        if session.live:
            say(f"{name}: {f'round {turn} of {rounds}' if turn else 'warming up'}: {side}")

    comparison = compare(
        opened, engine, against, workspace, name, terms, watch, lambda made: store_next(made, workspace)
    )
    path, found = inside(workspace.perf, f"{comparison.name}.json"), comparison.derived
    lines = [
        f"{found.outcome}  {comparison.candidate.name} against {comparison.reference.name}",
        f"  {found.reason}",
        "",
    ]
    lines += [columns(RAILS, rails(comparison))]
    lines += ["", columns(HEAD, rows(comparison)), ""]
    lines += [SAME_CODE] if comparison.same_code else []
    lines += [f"comparison {path}", f"page       {path.with_suffix('.html')}"]
    session.show({**comparison.document, "comparison": str(path)}, "\n".join(lines))
    return 0 if found.outcome == "GO" else 1


def _explanation(text: str) -> tuple[str, str]:
    state, mark, why = text.partition("=")
    if not mark or not why.strip():
        raise PolicyError(f"--explain: {text}: must be STATE=WHY, such as parse='the log has one more column'")
    return state, why.strip()


@click.command("lock")
@click.argument("comparison")
@click.option("--why", required=True, metavar="TEXT", help="Why this code is kept; the lock records it.")
@common_options
def lock_code(session: Session, comparison: str, why: str) -> int:
    """Freeze the code of COMPARISON, what it gave and what it took, in a runtime lock."""
    if not why.strip():
        raise click.UsageError("--why: give the reason; the lock records it")
    workspace = session.workspace()
    found = read(find_comparison(comparison, workspace))
    path = lock_runtime(found, engine_named(found.engine), workspace, why.strip())
    lock = RuntimeLock.read(path)
    text = f"{STATUS}  {lock.name}: {found.derived.reason}\nlock   {path}"
    session.show({"lock": str(path), "runtime_id": lock.runtime_id, "status": STATUS, "why": lock.why}, text)
    return 0
