"""The front of the house: commands listed without importing them, and the workspace meant where none is named."""

import json
import subprocess
import sys

import click
import pytest
from conftest import ROOT, child_environment

from lanelock.sweeps.terminal.cli import COMMANDS, cli
from lanelock.sweeps.terminal.completion import LOCK
from lanelock.sweeps.workspace import default_folder

ASKED = """
import json, sys, click
from lanelock.sweeps.terminal.cli import cli
context = click.Context(cli, info_name="lanelock")
answer = {answer}
print(json.dumps([answer, sorted(sys.modules)]))
"""
ANSWERS = ("cli.get_help(context)", "[item.value for item in cli.shell_complete(context, '')]")
HEAVY = {"numpy", "pyarrow", "pandas", "optuna", "mlflow", "numba", "matplotlib", "rich", "filelock"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_listed_command_is_the_one_in_its_module(name):
    _, command, _ = cli.resolve_command(click.Context(cli), [name])
    assert command.name == name and command.callback.__module__.startswith("lanelock.sweeps.terminal.commands.")


@pytest.mark.parametrize(
    "answer", ["cli.get_help(context)", "[item.value for item in cli.shell_complete(context, '')]"]
)
def test_help_and_completion_name_every_command_and_import_none(answer):
    command = [sys.executable, "-c", ASKED.format(answer=answer)]
    child = subprocess.run(command, capture_output=True, text=True, env=child_environment())
    text, modules = json.loads(child.stdout)
    assert all(name in text for name in COMMANDS)
    assert not HEAVY & set(modules) and not [name for name in modules if ".terminal.commands" in name]


def test_no_command_pays_for_the_record_before_it_is_called():
    answer = "[cli.resolve_command(context, [name])[1].name for name in cli.commands]"
    command = [sys.executable, "-c", ASKED.format(answer=answer)]
    child = subprocess.run(command, capture_output=True, text=True, env=child_environment())
    names, modules = json.loads(child.stdout)
    assert set(names) == set(COMMANDS) and not {"mlflow", "matplotlib", "sklearn"} & set(modules)


def test_help_shows_a_whole_sentence_for_every_command():
    lines = {line.strip() for line in cli.get_help(click.Context(cli, terminal_width=80)).splitlines()}
    for name, (_, sentence) in COMMANDS.items():
        assert f"{name:<11}  {sentence}" in lines, "not cut at a terminal's width"


def test_outside_a_checkout_the_workspace_is_the_nearest_lanelock_folder(tmp_path):
    inner = tmp_path / "project" / "deep" / "inner"
    inner.mkdir(parents=True)
    assert default_folder(inner) == inner / ".lanelock", "where it would be created"
    (tmp_path / "project" / ".lanelock").mkdir()
    assert default_folder(inner) == tmp_path / "project" / ".lanelock"
    (inner.parent / ".lanelock").write_text("a file is no workspace")
    assert default_folder(inner) == tmp_path / "project" / ".lanelock"


@pytest.mark.parametrize("text", ['[project]\nname = "theirs"\n', "not = [toml", 'project = "lanelock"\n', "", None])
def test_in_a_project_of_others_it_is_never_mlflows_own_folder(tmp_path, text):
    (tmp_path / "mlruns").mkdir()
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    assert default_folder(tmp_path) == tmp_path / ".lanelock"


@pytest.mark.plan("4.0.1")
def test_in_a_checkout_of_lanelock_it_is_mlruns_from_every_folder_of_it(tmp_path):
    assert default_folder(ROOT) == default_folder(ROOT / "sweeps" / "terminal") == ROOT / "mlruns"
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "inner").mkdir()
    assert default_folder(tmp_path / "inner") == tmp_path / "mlruns"


def test_completion_and_commands_mean_the_same_workspace(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("LANELOCK_WORKSPACE", raising=False)
    locks, inner = tmp_path / ".lanelock" / "locks", tmp_path / "inner"
    locks.mkdir(parents=True)
    inner.mkdir()
    (locks / "mine-1.0123456789ab.json").write_text("{}")
    monkeypatch.chdir(inner)
    _, status, _ = cli.resolve_command(click.Context(cli), ["status"])
    with click.Context(status) as context:
        offered = LOCK(context, click.Argument(["lock"]), "mine")
    assert [item.value for item in offered if item.type == "plain"] == ["mine-1.0123456789ab"]
    assert cli.main(["status", "--json"], standalone_mode=False) == 0
    assert json.loads(capfd.readouterr().out)["root"] == str(tmp_path / ".lanelock")
    monkeypatch.setenv("LANELOCK_WORKSPACE", str(tmp_path / "other"))
    assert cli.main(["status", "--json"], standalone_mode=False) == 0
    assert json.loads(capfd.readouterr().out)["root"] == str(tmp_path / "other")
