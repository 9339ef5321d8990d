"""optuna-dashboard opens a sweep's own storage, as it stands, and shows what the sweep told."""

import threading
from contextlib import contextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server

import browser
import optuna_dashboard
import pytest
from lanes import lane_with
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from werkzeug.test import Client

from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    workspace = Workspace.at(folder / "ws")
    closed = play(lane_with(folder), workspace, jobs=2, track=False)
    return closed, optuna_dashboard.wsgi(JournalStorage(JournalFileBackend(str(workspace.journal))))


def test_it_shows_every_trial_as_it_was_told(swept):
    closed, dashboard = swept
    client = Client(dashboard)
    (listed,) = client.get("/api/studies").get_json()["study_summaries"]
    assert listed["study_name"] == closed.sweep and listed["directions"] == ["maximize", "minimize"]
    study = client.get(f"/api/studies/{listed['study_id']}").get_json()
    assert study["objective_names"] == [objective.name for objective in closed.ground.lane.objectives]
    assert len(study["trials"]) == len(closed.trials)
    for shown, told in zip(study["trials"], closed.trials, strict=True):
        assert shown["number"] == told.number and shown["state"] == "Complete"
        assert tuple(shown["values"]) == told.objectives
        assert {row["name"]: float(row["param_external_value"]) for row in shown["params"]} == told.values
        assert any(row["key"] == "lanelock" for row in shown["user_attrs"]), "what was recorded of it"


def test_its_front_is_the_sweeps(swept):
    closed, dashboard = swept
    study = Client(dashboard).get("/api/studies/0").get_json()
    vetoed = {told.number for told in closed.trials if max(told.constraints.values()) > 0}
    best = {trial["number"] for trial in study["best_trials"]}
    assert best and not best & vetoed, "a vetoed trial is not among the best"


def test_it_opens_in_a_browser(swept, screenshots):
    browser.require()
    closed, dashboard = swept
    with _served(dashboard) as root, browser.browser() as driver:
        driver.get(f"{root}/dashboard/studies/0")
        page = browser.Page(driver, root, screenshots, visit=None)
        page.until(f"return document.body.innerText.includes({closed.sweep!r})")
        page.until("return document.querySelectorAll('.main-svg').length > 0")
        assert "Pareto" in page.text()
        page.keep("optuna_dashboard")


class _Silent(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def _served(app):
    server = make_server("127.0.0.1", 0, app, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
