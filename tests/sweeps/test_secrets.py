"""No user, password or token of an address reaches a terminal, a file, a command line or a message passed on."""

import os
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE, refused

from lanelock.policies import WorkspaceError
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.live import mlflow_server
from lanelock.sweeps.record.mlflow_store import Store
from lanelock.sweeps.record.outbox import Outbox
from lanelock.sweeps.secrets import shown, without_secrets
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

ANY = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Cc", "Cs")), max_size=24)
SECRET = ANY.map(lambda text: f"Zq{text}qZ")  # so that it is found in no host, scheme or sentence by chance
SCHEMES = st.sampled_from(["postgresql://", "postgresql+psycopg://", "mysql://", "http://", "https://", ""])
SENTENCE = "could not connect, port 5432 on host.example: Connection refused"


@given(SCHEMES, SECRET, SECRET)
def test_a_password_of_any_characters_is_never_shown(scheme, user, password):
    uri = f"{scheme}{user}:{password}@host.example:5432/db"
    assert shown(uri) in (f"{scheme}host.example:5432/db", f"{scheme}…")
    escaped = f"{scheme}{quote(user, safe='')}:{quote(password, safe='')}@h1:1,h2:2/db"
    assert shown(escaped) == f"{scheme}h1:1,h2:2/db"


@given(SCHEMES, SECRET)
def test_neither_are_the_values_of_a_query_nor_a_token_that_stands_alone(scheme, secret):
    for name in ("password", "token", "sslpassword"):
        for uri in (
            f"{scheme}host.example/db?sslmode=require&{name}={secret}",
            f"{scheme}me:x@host.example/db?{name}={secret}&sslmode=require",
        ):
            assert "Zq" not in shown(uri) and "qZ" not in shown(uri)
    for uri in (f"{scheme}{secret}@host.example", f"{scheme}host.example/#{secret}", f"{scheme}host.example/?{secret}"):
        assert "Zq" not in shown(uri) and "qZ" not in shown(uri)
    assert shown(shown(uri)) == shown(uri)


@given(SECRET)
def test_a_message_says_no_password_that_a_library_quotes(password):
    uri = f"postgresql://someone:{password}@host.example/db"
    for text in (
        uri,
        quote(password, safe=""),
        password,
        repr(uri),
        f"someone:{password}",
        f"at {password}@host.example",
    ):
        said = without_secrets(f"{SENTENCE}: {text}", uri)
        whole = said.startswith(SENTENCE) or set(password) & set("?#;")  # then the host may be a part of the password
        assert whole and "Zq" not in said and "qZ" not in said, said


@given(ANY, st.sampled_from("@/:"), st.text("abcXYZ019", min_size=4, max_size=12))
def test_nor_the_end_of_a_password_that_was_taken_for_a_host_or_a_port(before, cut, end):
    uri = f"postgresql://someone:{before}{cut}{end}@host.example/db"
    for text in (f"cannot resolve '{end}@host.example'", f"{end!r} is no port", f"'someone:{end}' is no host"):
        assert end not in without_secrets(text, uri)


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////tmp/a@b/mlflow.db",
        "/tmp/a@b",
        "http://127.0.0.1:5000",
        "databricks",
        "http://[::1]:5000/x",
        "workspace",
    ],
)
def test_an_address_without_secrets_is_shown_whole(uri):
    for text in (f"no such host: {uri}", f"{uri}: cannot write", f"meant for {uri}, not ({uri})"):
        assert shown(uri) == uri and without_secrets(text, uri) == text


@pytest.mark.parametrize(
    "uri",
    [
        "http://someone:Hush4you@127.0.0.1:9",
        "http://someone:Hu/sh4you@127.0.0.1:9",
        "http://127.0.0.1:9/?token=Hush4you",
        "nosuch://someone:Hush4you@host.example/db",
        "someone:Hush4you@host.example/db",
        "postgresql://someone:Hush4you@127.0.0.1:port/db",
        "oracle://someone:Hush4you@127.0.0.1:9/db",
    ],
)
def test_a_store_or_study_that_does_not_open_is_refused_without_its_secrets(uri, tmp_path, monkeypatch, here):
    place = Workspace(tmp_path, uri)
    with pytest.raises(WorkspaceError) as caught:
        Store(place)
    for text in (str(caught.value), refused(export(uri, tmp_path, monkeypatch, here)), repr(place)):
        assert "sh4you" not in text, text


@pytest.mark.parametrize("uri", ["someone:Hu@sh4you@127.0.0.1:9/db", "127.0.0.1:9/db?password=Hush4you"])
def test_a_study_whose_database_is_away_is_refused_without_its_secrets(uri, tmp_path, monkeypatch, here):
    assert "sh4you" not in refused(export(f"postgresql://{uri}", tmp_path, monkeypatch, here), "cannot be opened")


def export(uri, tmp_path, monkeypatch, here):
    monkeypatch.setenv("LANELOCK_STUDY_STORAGE", uri)
    return here("export", "queue-1", "--csv", tmp_path / "x.csv", workspace=tmp_path / "ws")


def test_letters_that_wait_name_their_server_without_its_secrets(tmp_path):
    place = Workspace.at(tmp_path, "http://someone:Hush4you@127.0.0.1:9/?token=Hush4you")
    play(load_lane(str(QUEUE / "lane.json")).with_search(trials=4), place)
    (box,) = Outbox(place).boxes()
    assert box.opening().heading.record == "http://127.0.0.1:9/?…"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"Hush4you" not in written and b"someone" not in written


def test_the_server_of_the_page_is_told_its_store_on_no_command_line(tmp_path):
    uri = f"sqlite:///{tmp_path / 'ws' / 'mlflow.db'}?timeout=77"
    place = Workspace.at(tmp_path / "ws", uri)
    Store(place)  # makes the database
    server = mlflow_server.MlflowServer(place)
    try:
        while (root := server.root()) is None:
            time.sleep(0.1)
        ours = [path for path in Path("/proc").glob("[0-9]*") if _group(path) == server._server.pid]
        lines = [(path / "cmdline").read_bytes().replace(b"\0", b" ").decode() for path in ours]
        assert len(lines) >= 2 and any("mlflow" in line for line in lines)
        assert not any(uri in line or "timeout=77" in line for line in lines), lines
        assert "timeout=77" not in place.server_log.read_text()
        urllib.request.urlopen(f"{root}/ajax-api/2.0/mlflow/experiments/search?max_results=1").close()
    finally:
        server.end()


def _group(process):
    try:
        return os.getpgid(int(process.name))
    except ProcessLookupError:
        return None
