"""A report is what was measured, on one page that needs nothing beside it, or one line that says why there is none."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from lanes import lane_with, refused

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.segment_2b.store import publish
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json
from lanelock.scoring.figures.palette import DARK, LIGHT
from lanelock.scoring.gates import load_gates
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.pages.scorecard import html, markdown
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.reports.scorecards import lock_report, run_report
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace.at(tmp_path_factory.mktemp("report") / "ws")


@pytest.fixture(scope="module")
def run(workspace, packs):
    return publish(SEGMENT_2B.evaluate(packs("p1"), 42), workspace.runs)


@pytest.fixture(scope="module")
def lock(workspace):
    lane = load_lane("p3_wide").with_search(trials=3, batch=3)
    return play(lane, workspace, track=False).lock


@pytest.fixture(scope="module")
def queue_lock(workspace, tmp_path_factory):
    return play(lane_with(tmp_path_factory.mktemp("queue"), budget__trials=6), workspace, track=False).lock


@pytest.fixture(scope="module")
def reports(workspace, run, lock, queue_lock):
    made = {"run": run_report(run, workspace)}
    return made | {name: lock_report(Lock.read(path), None)
                   for name, path in (("lock", lock), ("queue", queue_lock))}  # fmt: skip


@pytest.fixture(scope="module")
def pages(reports):
    return {name: html(report) for name, report in reports.items()}


class Page(HTMLParser):
    """Tags left open, ids, and whatever a browser would fetch."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "rect", "use", "circle"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.fetched, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.fetched += [found[name] for name in ("src", "href", "xlink:href", "data") if name in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


@pytest.mark.parametrize("which", ["run", "lock", "queue"])
def test_a_page_needs_nothing_beside_it(pages, which):
    text, page = pages[which], Page(pages[which])
    assert all(found.startswith(("#", "data:")) for found in page.fetched)
    assert "http:" not in text and "https:" not in text and "@import" not in text and "<script" not in text
    assert "url(" not in text.replace("url(#", "")
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert {found[1:] for found in page.fetched if found.startswith("#")} <= set(page.ids)
    assert len(text.encode()) < 1_500_000


@pytest.mark.parametrize("which", ["run", "lock", "queue"])
def test_light_and_dark_define_every_token_that_a_page_uses(pages, which):
    used = set(re.findall(r"var\(--([\w-]+)\)", pages[which])) - {"tone"}
    assert used <= set(LIGHT) == set(DARK)
    light, dark = pages[which].split("@media (prefers-color-scheme:dark)")[:2]
    assert all(f"--{token}:{LIGHT[token]}" in light and f"--{token}:{DARK[token]}" in dark for token in used)
    assert not set(re.findall(r"(?:fill|stroke|color): ?#", pages[which]))


@pytest.mark.parametrize("which", ["run", "lock", "queue"])
def test_every_gate_has_one_row(pages, reports, which):
    gates = [gate.id for gate in reports[which].gates.gates]
    assert [found for found in Page(pages[which]).ids if found.startswith("gate-")] != []
    assert sorted(re.findall(r'<tr role="row" id="gate-([^"]+)"', pages[which])) == sorted(gates)
    assert sorted(re.findall(r'role="rowheader"><code>([^<]+)</code>', pages[which])) == sorted(gates)


def test_a_run_is_scored_again_from_its_files_beside_the_baseline_on_its_world(reports, run, packs, workspace):
    report = reports["run"]
    assert dict(report.cards[0].metrics) == METRICS.measure(SEGMENT_2B.evaluate(packs("p1"), 42))
    drawn = METRICS.measure(SEGMENT_2B.evaluate(packs("baseline"), 42))
    assert dict(report.authority[42]) == {name: drawn[name] for name in report.authority[42]}
    assert str(report.overall.verdict) == "FAIL_REALISM" and len(report.figures) == 10


def test_a_locks_page_states_what_the_lock_states(reports, pages, lock):
    stated, report = Lock.read(lock), reports["lock"]
    assert [card.as_document() for card in report.cards] == [stated.proof[seed].card for seed in stated.seeds]
    words = " ".join(" ".join(Page(pages["lock"]).words).split())
    for text in (stated.lock_id, stated.candidate_pack.digest, stated.code_version, stated.lane_document["title"],
                 stated.proof[7].world, stated.authority.digest):  # fmt: skip
        assert text in words
    worst = report.overall
    assert all(f"{row.value:.6g}" in words for row in worst.gates)
    assert f"{worst.verdict} on the worst of seeds 42, 7, 101, 202" in words


def test_an_engine_without_figures_has_its_gates_and_strips_all_the_same(reports, pages):
    assert reports["queue"].figures == () and "<figure" not in pages["queue"]
    assert pages["queue"].count('class="bars" role="img" aria-label="candidate seed') == 3
    assert "What lies behind the gates" not in pages["queue"]


def test_a_page_is_the_same_bytes_each_time(reports, pages, run, workspace):
    assert html(run_report(run, workspace)) == pages["run"] and html(reports["lock"]) == pages["lock"]


def test_a_page_in_words_holds_every_gate_and_every_caption(reports):
    text = markdown(reports["lock"])
    assert text.startswith("# ") and "<" not in text.replace("<=", "").replace("< ", "")
    assert all(gate.id in text for gate in reports["lock"].gates.gates)
    assert all(figure.says in text for figure in reports["lock"].figures)


@pytest.mark.parametrize(("of", "word"), [("run", "Does not meet band B"), ("lock", "band"), ("queue", "band")])
def test_the_verdict_is_said_in_words_and_by_a_shape(pages, of, word):
    banner = pages[of].partition('<header class="banner')[2].partition("</header>")[0]
    assert re.search(r"<h1>([^<]+)</h1>", banner)[1].startswith(("Does not", "Meets", "Vetoed", "Cannot"))
    assert word in banner and banner.count("<svg") == 1


def test_the_command_writes_a_page_whole_and_says_where(lanelock, workspace, run, pages, tmp_path):
    page = tmp_path / "card.html"
    code, out, err = lanelock("report", run.name, "--html", page, workspace=workspace.root)
    assert code == 0 and err == "" and f"page   {page}" in out and "s4_max_p" in out
    assert page.read_text() == pages["run"] and [path.name for path in page.parent.iterdir()] == ["card.html"]


def test_the_command_answers_machines(lanelock, workspace, lock, reports):
    code, document, _ = lanelock("report", lock.stem, "--json", workspace=workspace.root)
    assert code == 0 and document == json.loads(json.dumps(reports["lock"].as_document()))
    assert document["kind"] == "lock" and len(document["figures"]) == 10 and len(document["cards"]) == 4


def test_a_report_that_cannot_be_made_is_one_line(lanelock, workspace, lock, run, tmp_path):
    page = tmp_path / "card.html"
    refused(lanelock("report", "nothing", "--html", page, workspace=workspace.root), "nothing")
    refused(lanelock("report", run.name, "--html", tmp_path, workspace=workspace.root), "--html")
    refused(lanelock("report", run.name, "--html", lock / "card.html", workspace=workspace.root), "--html")
    assert not page.exists()


def test_what_was_changed_has_no_page(lanelock, workspace, lock, run, tmp_path):
    document = read_json(lock)
    document["proof"]["42"]["metrics"]["s4/max_p_median"] += 1e-9
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    refused(lanelock("report", changed, workspace=workspace.root), str(changed), code=3)
    other = Workspace.at(tmp_path / "ws")
    shutil.copytree(run, other.runs / run.name)
    table = next((other.runs / run.name).rglob("s4_group_weights/**/*.parquet"))
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    refused(lanelock("report", run.name, workspace=other.root), "s4_group_weights", code=3)


def test_a_lock_on_a_world_from_outside_asks_for_it(lock):
    with pytest.raises(PolicyError, match="--world DIR"):
        lock_report(replace(Lock.read(lock), world_source="imported"), None)


def test_a_lock_whose_candidate_measures_otherwise_has_no_page(lock):
    stated = Lock.read(lock)
    proof, name = stated.proof[42], "s4/max_p_median"
    other = replace(proof, metrics={**proof.metrics, name: proof.metrics[name] + 1e-9})
    with pytest.raises(IntegrityError, match="/proof/42/metrics"):
        lock_report(replace(stated, proof={**stated.proof, 42: other}), None)


def test_the_gates_of_a_run_are_those_of_the_file(reports):
    assert [row.id for row in reports["run"].cards[0].gates] == [gate.id for gate in load_gates("segment_2b").gates]
