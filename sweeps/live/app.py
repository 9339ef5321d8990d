"""The live page's addresses: what each shows, and the two things that it can do: lock a trial, verify a lock."""

from __future__ import annotations

import hashlib
import html
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock as Mutex

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from lanelock.policies import LanelockError, PolicyError, RefusedError
from lanelock.policies.documents import read_json
from lanelock.policies.errors import cause
from lanelock.policies.names import check_name, inside
from lanelock.scoring.figures.drawing import Figure
from lanelock.sweeps.campaign.records import BEGUN, records_in
from lanelock.sweeps.campaign.report import REPORTS
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.live.campaign_page import Run, campaign_page
from lanelock.sweeps.live.candidates import best_text
from lanelock.sweeps.live.frame import NEVER, OFTEN, SELDOM, framed, heading, link, live, markup, note, path
from lanelock.sweeps.live.guards import Guarded, Token, form_of
from lanelock.sweeps.live.lock_pages import SHOWN as LOCKS_SHOWN
from lanelock.sweeps.live.lock_pages import Proof, certified, lock_blocks, locks_page
from lanelock.sweeps.live.mlflow_server import MlflowServer
from lanelock.sweeps.live.shelf import FINISHED, RUNNING, Now, Row, Shelf
from lanelock.sweeps.live.sight import DRAWN, View
from lanelock.sweeps.live.start_page import campaigns_table, start_page
from lanelock.sweeps.live.sweep_page import sweep_page
from lanelock.sweeps.live.verifying import Verifying
from lanelock.sweeps.pages import scorecard
from lanelock.sweeps.pages.page import Block, Paragraph
from lanelock.sweeps.pages.text import size
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.signatures import signatures_text
from lanelock.sweeps.proof.trust import trust_for
from lanelock.sweeps.reports import study
from lanelock.sweeps.reports.difference import compare, same_engine
from lanelock.sweeps.reports.difference_page import as_blocks
from lanelock.sweeps.reports.scorecards import lock_report, trial_report
from lanelock.sweeps.reports.subject import find, settled
from lanelock.sweeps.workspace import Workspace

_REMEMBERED = 12  # pages that cost a run of the engine, and never change
_GRADED_AT_ONCE = 2_000  # trials of a running sweep that the start page grades without being asked


class Pages:
    """The pages of one workspace. Every method but the two that answer a form only reads."""

    def __init__(self, workspace: Workspace, mlflow: MlflowServer, *, read_only: bool) -> None:
        self.workspace, self.mlflow, self.read_only = workspace, mlflow, read_only
        self.shelf, self.verifying, self.token = Shelf(workspace), Verifying(workspace), Token()
        self._made: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._seen_last: dict[str, tuple[object, str]] = {}  # sweep -> what its page was last made of, and the page
        self._one = Mutex()  # one trial is locked at a time

    def warm(self) -> None:
        """Reads what the first page shows, so that it answers at once."""
        with suppress(LanelockError, OSError):
            self.shelf.now()
            dict(self._holds(self.shelf.now()))

    # --- what is looked at again and again --------------------------------------------------------------

    def start(self, request: Request) -> Response:
        now, every = self.shelf.now(), "all" in request.query_params
        blocks = start_page(now, partial(self._best, now), dict(self._holds(now)), every=every)
        return self._page(request, "Sweeps", "/", blocks, OFTEN if now.running else SELDOM)

    def sweep(self, request: Request) -> Response:
        now, name = self.shelf.now(), request.path_params["sweep"]
        row, view, figures = self._seen(name, now)
        chosen = (lock for lock in now.locks if lock.by_hand and lock.sweep == name)
        locks = tuple(link(path("locks", lock.name), f"chosen by hand: {lock.name}") for lock in chosen)
        seen = (view, row, figures, locks, "all" in request.query_params)
        if self._seen_last.get(name, ((), ""))[0] != seen:
            blocks = sweep_page(view, row, figures, locks, every=seen[-1], read_only=self.read_only)
            every = OFTEN if row.state == RUNNING else SELDOM
            self._seen_last[name] = seen, framed(name, "/", self._place, blocks, every)
        return self._answer(request, self._seen_last[name][1])

    def campaigns(self, request: Request) -> Response:
        now = self.shelf.now()
        none = Paragraph("No campaign was played here: `lanelock campaign NAME`.")
        blocks = [
            heading(1, "Campaigns"),
            *live("runs", [campaigns_table(now, now.campaigns) if now.campaigns else none]),
        ]
        return self._page(request, "Campaigns", "/campaigns", blocks, SELDOM)

    def campaign(self, request: Request) -> Response:
        now, name = self.shelf.now(), request.path_params["run"]
        folder = inside(self.workspace.campaigns, name)
        playing = any(row.kind == "campaign" and row.name == name for row in now.running)
        document = read_json(folder / BEGUN)["campaign"]
        run = Run(name, document, tuple(records_in(folder)), playing, (folder / REPORTS[1]).is_file())
        own = (row.sweep.name for row in now.rows if row.state == RUNNING and row.sweep.name.startswith(f"{name}."))
        blocks = campaign_page(run, partial(self._figures_of, now), next(own, None) if playing else None)
        return self._page(request, name, "/campaigns", blocks, OFTEN if playing else SELDOM)

    def locks(self, request: Request) -> Response:
        now, every = self.shelf.now(), "all" in request.query_params
        shown = now.locks if every else now.locks[:LOCKS_SHOWN]
        proofs = {row.name: proof for row in shown[:LOCKS_SHOWN] if (proof := self._proof_of(row.name)) is not None}
        blocks = locks_page(shown, len(now.locks), self.shelf.moves(), proofs, self.shelf.frozen())
        return self._page(request, "Locks", "/locks", blocks, SELDOM)

    def lock(self, request: Request) -> Response:
        name = request.path_params["lock"]
        file = self.shelf.find(name)
        lock, proof = self.shelf.lock(file), self._proof(self.shelf.lock(file), file)
        last = {move.alias: move.to.lock_id for move in self.shelf.moves()}
        aliases = [alias for alias, lock_id in last.items() if lock_id == lock.lock_id]
        button = "" if self.read_only else self._form(path("locks", name, "verify"), "<button>Verify now</button>")
        blocks = lock_blocks(name, lock, proof, aliases, button)
        verifying = proof.verified is not None and proof.verified.code is None
        return self._page(request, lock.name, "/locks", blocks, OFTEN if verifying else SELDOM)

    # --- what is made when it is asked for --------------------------------------------------------------

    def trial(self, request: Request) -> Response:
        _, view, trial = self._trial(request)
        name = f"{view.sweep}/{trial.number}"
        if not trial.record.measures:
            why = trial.record.failure or "nothing was measured"
            said: list[Block] = [heading(1, name), Paragraph(f"The trial failed: {why}.")]
            return self._page(request, name, "/", said)
        chosen = view.locked is not None and view.locked.number == trial.number
        notes = (view.lock.because,) if chosen and view.lock is not None else ()
        key = ("trial", view.sweep, str(trial.number), trial.record.pack, *notes)
        made = self._once(key, name, lambda: scorecard.blocks(trial_report(view.sweep, trial, view.ledger, notes)))
        return HTMLResponse(made)

    def scorecard(self, request: Request) -> Response:
        file = self.shelf.find(request.path_params["lock"])
        lock = self.shelf.lock(file)
        made = self._once(
            ("lock", lock.lock_id), lock.name, lambda: scorecard.blocks(lock_report(lock, self._world(lock)))
        )
        return HTMLResponse(made)

    def study(self, request: Request) -> Response:
        name = check_name(request.path_params["sweep"], "a sweep")
        row = self._row(name, self.shelf.now())
        lock = "" if row.lock is None else row.lock.lock_id
        return HTMLResponse(
            self._once(("study", name, lock), name, lambda: study.blocks(study.closed(name, self.workspace)))
        )

    def compare(self, request: Request) -> Response:
        sweep, chosen = request.path_params["sweep"], request.query_params.getlist("trial")
        if len(chosen) != 2 or not all(number.isdecimal() and len(number) < 9 for number in chosen):
            raise HTTPException(400, "choose two candidates, and two only")
        before, after = (f"{check_name(sweep, 'a sweep')}/{int(number)}" for number in chosen)
        return HTMLResponse(
            self._once(("compare", before, after), f"{before}, {after}", lambda: self._compared(before, after))
        )

    def table(self, request: Request) -> Response:
        from lanelock.sweeps.reports.trials_table import trials_frame  # pandas, which no other page needs

        name = check_name(request.path_params["sweep"], "a sweep")
        text = trials_frame(name, self.workspace).to_csv(index=False)
        return Response(
            text, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}.csv"'}
        )

    def report(self, request: Request) -> Response:
        file = inside(self.workspace.campaigns, request.path_params["run"]) / REPORTS[1]
        if not file.is_file():
            raise HTTPException(404, "this run has no report yet: it is written at its end")
        return HTMLResponse(file.read_text(encoding="utf-8"))

    def mlflow_page(self, request: Request) -> Response:
        """Leads to a page of MLflow; shows that its server begins until it answers."""
        root = self.mlflow.root()
        if root is None:
            wait = markup('<meta http-equiv="refresh" content="1">')
            words = Paragraph("This takes some seconds; its page then opens.")
            blocks: list[Block] = [heading(1, "MLflow is starting"), words, wait]
            return self._page(request, "MLflow", "/mlflow", blocks)
        found = self._in_mlflow(**request.path_params)
        if found is None:
            raise HTTPException(404, "MLflow does not have it (yet): its uploads may be pending; try lanelock sync")
        return RedirectResponse(f"{root}/{found}", 303)

    # --- what changes something -------------------------------------------------------------------------

    def lock_form(self, request: Request, refusals: Iterable[str] = (), status: int = 200) -> Response:
        row, view, trial = self._trial(request)
        if self.read_only or row.state != FINISHED:
            raise HTTPException(403, "this page is read-only" if self.read_only else "the sweep has not closed")
        name = f"{view.sweep}/{trial.number}"
        decided = "" if view.lock is None else f"The decision took: {view.lock.because}."
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in refusals)
        refused = f'<div role="alert"><p><b>REFUSED</b> {html.escape(name)} is not locked:</p><ul>{lines}</ul></div>'
        inputs = (
            '<label for="why">Why this trial? The lock records it.</label>'
            '<textarea id="why" name="why" required maxlength="4000"></textarea><p><button>Lock this trial</button></p>'
        )
        blocks: list[Block] = [heading(1, f"Lock {name}"), Paragraph(decided), markup(refused if lines else "")]
        blocks += [note(link(path("sweeps", view.sweep, "trials", trial.number), "its scorecard"))]
        blocks.append(markup(self._form(path("sweeps", view.sweep, "trials", trial.number, "lock"), inputs)))
        return self._page(request, f"Lock {name}", "/", blocks, status=status)

    def lock_trial(self, request: Request, form: dict[str, str]) -> Response:
        """Locks a trial as `lanelock lock SWEEP/N --why TEXT` does, and shows the lock or why it is refused."""
        from lanelock.sweeps.proof.chosen import lock_trial

        _, view, trial = self._trial(request)
        if not (why := form.get("why", "").strip()):
            return self.lock_form(request, ["give the reason; the lock records it"], 400)
        with self._one:
            chosen = lock_trial(view.sweep, trial.number, why, self.workspace)
        if chosen.lock is None:
            return self.lock_form(request, chosen.refusals, 409)
        return RedirectResponse(path("locks", chosen.lock.name), 303)

    def verify(self, request: Request, form: dict[str, str]) -> Response:
        name = request.path_params["lock"]
        self.verifying.begin(self.shelf.find(name))
        return RedirectResponse(path("locks", name), 303)

    # --- parts ------------------------------------------------------------------------------------------

    def _row(self, sweep: str, now: Now) -> Row:
        row = now.row(check_name(sweep, "a sweep"))
        if row is None:
            raise HTTPException(404, f"no sweep {sweep} in {self.workspace.root}")
        return row

    def _seen(self, sweep: str, now: Now) -> tuple[Row, View, tuple[Figure, ...]]:
        row = self._row(sweep, now)
        sight, view = self.shelf.look(sweep, now)
        return row, view, sight.figures(view, row.state == RUNNING)

    def _trial(self, request: Request) -> tuple[Row, View, Trial]:
        now, number = self.shelf.now(), request.path_params["number"]
        row = self._row(request.path_params["sweep"], now)
        _, view = self.shelf.look(row.sweep.name, now)
        trial = next((trial for trial in view.trials if trial.number == number), None)
        if trial is None:
            raise HTTPException(404, f"{row.sweep.name}: {number} is not among its {len(view.trials)} trials")
        return row, view, trial

    def _figures_of(self, now: Now, sweep: str) -> tuple[Figure, ...]:
        """Returns the figures of a campaign's sweep; nothing where it was pruned or is too long to be drawn."""
        row = now.row(sweep)
        if row is None or row.sweep.trials > DRAWN:
            return ()
        return self._seen(sweep, now)[2]

    def _best(self, now: Now, sweep: str) -> str:
        row = now.row(sweep)
        if row is None or (row.sweep.trials > _GRADED_AT_ONCE and not self.shelf.sights.known(sweep)):
            return "open it to see"
        try:
            return best_text(self.shelf.look(sweep, now)[1])
        except LanelockError as error:
            return str(error)

    def _holds(self, now: Now) -> Iterator[tuple[str, str]]:
        aliases = dict[str, list[str]]()
        for alias, lock in {move.alias: str(move.to) for move in self.shelf.moves()}.items():
            aliases.setdefault(lock, []).append(alias)
        go = sum(lock.decision == "GO" for lock in now.locks)
        waiting, why = self.shelf.pending()
        sizes = self.shelf.bytes()
        parts = ", ".join(f"{name} {size(count)}" for name, count in sizes.items() if name != "all" and count)
        yield "aliases", "; ".join(f"{', '.join(names)}: {lock}" for lock, names in aliases.items()) or "none"
        yield "locks", f"{len(now.locks):,}, {go:,} of them GO"
        yield "pending", (f"{waiting:,} uploads to MLflow{f' ({why})' if why else ''}" if waiting else "no uploads")
        yield "on disk", size(sizes["all"]) + (f" ({parts})" if parts else "")

    def _proof_of(self, name: str) -> Proof | None:
        file = inside(self.workspace.locks, f"{name}.json")
        try:
            return self._proof(self.shelf.lock(file), file)
        except LanelockError:  # an unreadable lock has no state of proof; its row says what is wrong with it
            return None

    def _proof(self, lock: Lock, file: Path) -> Proof:
        signed = signatures_text(file, trust_for(file, self.workspace))
        return Proof(signed, tuple(map(certified, self.shelf.evidence(lock))), self.verifying.of(file))

    def _world(self, lock: Lock) -> Path | None:
        """Returns the imported world of a lock, as its sweep's study names it; None where its engine draws its own."""
        if lock.world_source != "imported":
            return None
        return self.shelf.look(lock.sweep, self.shelf.now())[1].ledger.ground.world

    def _in_mlflow(self, lane: str = "", sweep: str = "", number: int | None = None) -> str | None:
        if lane:
            return self.mlflow.lane(check_name(lane, "a lane"))
        if not sweep:
            return ""
        return self.mlflow.run(self._row(sweep, self.shelf.now()).sweep.lane, sweep, number)

    def _compared(self, before: str, after: str) -> Iterable[Block]:
        old, new = (find(name, self.workspace, None) for name in (before, after))
        same_engine(old, new)
        old = settled(old, new, ())
        return as_blocks(compare(old, settled(new, old, ())))

    def _form(self, address: str, inputs: str) -> str:
        return f'<form method="post" action="{html.escape(address)}">{self.token.field()}{inputs}</form>'

    def _once(self, key: tuple[str, ...], name: str, blocks: Callable[[], Iterable[Block]]) -> str:
        """Returns a page that never changes, made once."""
        if key not in self._made:
            self._made[key] = framed(name, "/", self._place, blocks())
            while len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return self._made[key]

    @property
    def _place(self) -> str:
        return f"{self.workspace.root}{' (read-only)' if self.read_only else ''}"

    def _page(
        self, request: Request, name: str, here: str, blocks: Iterable[Block], every: int = NEVER, status: int = 200
    ) -> Response:
        return self._answer(request, framed(name, here, self._place, blocks, every), status)

    def _answer(self, request: Request, text: str, status: int = 200) -> Response:
        """Returns a page, or that it is as the browser has it."""
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return HTMLResponse(text, status, {"ETag": tag})

    def failed(self, request: Request, error: Exception) -> Response:
        """Returns what went wrong as a page of one line."""
        match error:
            case HTTPException():
                status, said = error.status_code, error.detail
            case RefusedError():
                status, said = 409, str(error)
            case PolicyError():
                status, said = 404, str(error)
            case LanelockError():
                status, said = 500, str(error)
            case OSError():
                status, said = 500, f"{error.filename or 'input/output'}: {error.strerror or error}"
            case _:
                status, said = 500, f"unexpected error: {cause(error)}"
        blocks: list[Block] = [
            heading(1, "Not found" if status == 404 else "Cannot be shown"),
            markup(f"<p>{html.escape(said)}</p>"),
        ]
        return HTMLResponse(framed(str(status), "", self._place, blocks), status)


def application(pages: Pages) -> Starlette:
    """Returns the application: the pages behind their guards."""

    def shown(make: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            try:
                return make(request)
            except Exception as error:  # whatever a study, a lock or an engine raises
                return pages.failed(request, error)

        return answer

    def done(act: Callable[[Request, dict[str, str]], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            form = await form_of(request)
            if pages.read_only or not pages.token.holds(form):
                why = "this page is read-only" if pages.read_only else "the form is not of this server: reload the page"
                return PlainTextResponse(why, 403)
            return await run_in_threadpool(shown(lambda asked: act(asked, form)), request)

        return answer

    one, of = "/sweeps/{sweep}", "/sweeps/{sweep}/trials/{number:int}"
    looked = {
        "/": pages.start, one: pages.sweep, f"{one}/study": pages.study, f"{one}/compare": pages.compare,
        f"{one}/trials.csv": pages.table, of: pages.trial, f"{of}/lock": pages.lock_form,
        "/campaigns": pages.campaigns, "/campaigns/{run}": pages.campaign, "/campaigns/{run}/report": pages.report,
        "/locks": pages.locks, "/locks/{lock}": pages.lock, "/locks/{lock}/scorecard": pages.scorecard,
        "/mlflow": pages.mlflow_page, "/mlflow/lanes/{lane}": pages.mlflow_page,
        "/mlflow/sweeps/{sweep}": pages.mlflow_page, "/mlflow/sweeps/{sweep}/{number:int}": pages.mlflow_page,
    }  # fmt: skip
    routes = [Route(address, shown(make), methods=["GET"]) for address, make in looked.items()]
    routes += [Route(f"{of}/lock", done(pages.lock_trial), methods=["POST"])]
    routes += [Route("/locks/{lock}/verify", done(pages.verify), methods=["POST"])]
    routes += [Route("/health", lambda request: PlainTextResponse("OK"), methods=["GET"])]

    async def missing(request: Request, error: Exception) -> Response:
        return pages.failed(request, error)

    return Starlette(routes=routes, middleware=[Middleware(Guarded)], exception_handlers={HTTPException: missing})
