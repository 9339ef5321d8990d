"""Locks and aliases with what is known of their proof: signatures, certifications, and verifications asked for here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lanelock.policies import LanelockError
from lanelock.policies.documents import read_json
from lanelock.sweeps.live.frame import chip, decided, heading, link, live, markup, note, path, rows
from lanelock.sweeps.live.verifying import Verification
from lanelock.sweeps.pages.page import Block, Paragraph
from lanelock.sweeps.pages.text import one_line, short
from lanelock.sweeps.proof.evidence import CERTIFICATION, claim_in
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_page import lock_page
from lanelock.sweeps.proof.moves import Move, as_line, signature_of
from lanelock.sweeps.upkeep.status import Closed

SHOWN = 50  # locks, unless all are asked for


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a lock's proof."""

    signed: str  # by whom, in words
    certified: tuple[str, ...]  # each certification in words
    verified: Verification | None  # the last that was asked for here


def certified(folder: Path) -> str:
    """Returns what a certification states, in words."""
    try:
        stated = read_json(folder / CERTIFICATION)
        profile = f" by profile {stated['profile']}" if stated.get("profile") else ""
        claim = claim_in(stated)
        claims = "" if claim is None else f", {claim}"
        return f"{stated['verdict']}{profile} on {len(stated['seeds'])} seeds{claims}: {folder.name}"
    except (LanelockError, KeyError, TypeError, ValueError):
        return f"{folder.name}: cannot be read"


def locks_page(
    locks: Sequence[Closed], total: int, moves: Sequence[Move], proofs: Mapping[str, Proof], frozen: Mapping[str, str]
) -> Iterator[Block]:
    """Yields the page of all locks and aliases. `proofs`: of the locks that are shown, by name."""
    yield heading(1, "Locks and aliases")
    yield from live("aliases", _aliases(moves, frozen))
    yield heading(2, "Locks")
    yield from live("locks", _locks(locks, total, moves, proofs))


def _aliases(moves: Sequence[Move], frozen: Mapping[str, str]) -> Iterator[Block]:
    yield heading(2, "Aliases")
    last = {move.alias: move for move in moves}
    head = {"alias": "", "points to": "wide", "verdict": "wide", "since": "num", "moved by": "wide"}
    body = (("", _alias(alias, move)) for alias, move in sorted(last.items()))
    yield rows(head, body, "Aliases") if last else Paragraph("No alias points to a lock yet: `lanelock promote LOCK`.")
    if moves:
        lines = "".join(f"<li>{escape(as_line(move))}</li>" for move in moves[:-21:-1])
        yield markup(f'<details id="moves"><summary>The last moves</summary><ol reversed>{lines}</ol></details>')
    for engine, text in frozen.items():
        yield note(f"Engine {escape(engine)} is frozen: {escape(short(one_line(text), 300))}")


def _alias(alias: str, move: Move) -> Iterator[str]:
    to = move.to
    yield f"<b>{escape(alias)}</b>"
    yield f"{link(path('locks', to.lock_id), to.sweep)} <code>{to.lock_id[:12]}</code>"
    profile, evidence = (f" by profile {to.profile}" if to.profile else ""), f"evidence {to.evidence}"
    yield escape(f"{to.verdict}{profile}, {evidence if to.evidence else 'not certified'}")
    yield escape(move.at[:16].replace("T", " "))
    yield escape(f"{move.who}, {signature_of(move)}" + (", forced" if move.forced else ""))


def _locks(locks: Sequence[Closed], total: int, moves: Sequence[Move], proofs: Mapping[str, Proof]) -> Iterator[Block]:
    if not locks:
        yield Paragraph("No sweep has closed here yet, so there is no lock.")
        return
    head = {"lock": "", "decision": "", "why": "wide", "proof": "wide", "aliases": ""}
    aliases = {move.alias: move.to.lock_id for move in moves}
    body = (("", _lock(lock, proofs.get(lock.name), aliases)) for lock in locks)
    yield rows(head, body, "Locks, the newest first")
    more = "" if len(locks) == total else f"; {link('/locks?all=1', f'all {total:,}')}"
    yield note(f"{len(locks):,} of {total:,} locks{more}.")


def _lock(lock: Closed, proof: Proof | None, aliases: Mapping[str, str]) -> Iterator[str]:
    yield link(path("locks", lock.name), lock.name)
    yield f'{decided(lock.decision)}<br><span class="muted">{escape(lock.verdict)}</span>'
    yield escape(short(one_line(lock.reason), 160))
    yield "" if proof is None else _proof(proof)
    yield ", ".join(escape(alias) for alias, lock_id in aliases.items() if lock_id == lock.lock_id)


def _proof(proof: Proof) -> str:
    lines = [escape(proof.signed), *(f"certified {escape(row)}" for row in proof.certified)]
    return "<br>".join([_verified(proof.verified), *lines])


def _verified(found: Verification | None) -> str:
    if found is None:
        return '<span class="muted">not verified from this page</span>'
    if found.code is None:
        return chip("verifying", "going")
    return f"{chip('verified', 'good') if found.code == 0 else chip('differs', 'bad')} {escape(found.at)}"


def lock_blocks(name: str, lock: Lock, proof: Proof, aliases: Sequence[str], form: str) -> Iterator[Block]:
    """Yields the page of one lock: its state of proof, then what it states. `form`: the button that verifies it."""
    title, *stated = lock_page(lock)
    yield title
    yield from live("proof", _state(name, lock, proof, aliases, form))
    yield from [heading(2, "What it states"), *stated]


def _state(name: str, lock: Lock, proof: Proof, aliases: Sequence[str], form: str) -> Iterator[Block]:
    points = [link(path("locks", name, "scorecard"), "scorecard with figures")]
    points.append(link(path("sweeps", lock.sweep), f"sweep {lock.sweep}"))
    rows_ = {
        "verified": _verified(proof.verified),
        "signed": escape(proof.signed),
        "certified": "<br>".join(map(escape, proof.certified)) or "no certification here",
        "profile": escape(lock.profile or "none of its gate file's"),
        "aliases": escape(", ".join(aliases)) or "none",
    }
    items = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in rows_.items())
    yield markup(f'<h2>State of proof</h2><dl class="facts">{items}</dl><div class="pick">{form}</div>')
    if proof.verified is not None and proof.verified.said:
        yield markup(f'<pre tabindex="0" aria-label="What verify said">{escape(proof.verified.said)}</pre>')
    yield markup(f'<p class="links">{"".join(points)}</p>')
