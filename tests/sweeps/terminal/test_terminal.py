"""The terminal: the options every command has, a sweep as it is watched, what a shell completes."""

import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import replace

import click
import pytest
from conftest import ROOT, child_environment
from lanes import QUEUE

from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.sweep import Progress, play
from lanelock.sweeps.terminal.cli import cli
from lanelock.sweeps.terminal.commands.completion import PROGRAM
from lanelock.sweeps.terminal.progress import in_words
from lanelock.sweeps.workspace import Workspace

LANE = QUEUE / "lane.json"
SERVES, ELSEWHERE = "serves until it is stopped", "is called in another test"
CALLS = {  # every command, and a quick call of it: {run}, {lock} and {sweep} are in the workspace, {table} is not
    "policy validate": ("p1",),
    "policy digest": ("p1",),
    "policy diff": ("p1", "p2"),
    "policy import": ELSEWHERE,  # in engine/segment_2b/test_record_policies.py: a second call refuses to write again
    "policy export": ELSEWHERE,
    "world show": (),
    "world build": (),
    "perf compare": ELSEWHERE,  # in perf/test_code_lane.py, likewise
    "perf lock": ELSEWHERE,  # in perf/test_runtime_lock.py: it needs a comparison
    "perf baseline": ELSEWHERE,  # in perf/test_baseline.py: each round is a process of its own
    "run": ("--pack", "p1", "--seed", 42, "--score"),
    "score": ("{run}",),
    "contract": (),
    "explain": ("{run}",),
    "replay": ("{run}",),
    "compare": ("{sweep}/0", "{lock}"),
    "feasibility": (LANE,),
    "sweep": (LANE, "--trials", 4),
    "campaign play": (QUEUE / "campaign.json",),
    "campaign answer": ELSEWHERE,  # in campaign/test_rulings.py: it needs a campaign that waits
    "campaign waive": ELSEWHERE,
    "certify": ("{lock}", "--seeds", "1"),
    "promote": ("{lock}", "--to", "candidate", "--dry-run"),
    "note": ("it waits long",),
    "reopen": ELSEWHERE,  # in campaign/test_freeze.py: the second call finds nothing frozen
    "rollback": ("candidate", "--dry-run"),
    "lock show": ("{lock}",),
    "lock unpack": ("{lock}", "--to", "unpacked", "--diff"),
    "lock verify": ("{lock}",),
    "verify": ("{lock}",),
    "export": ("{sweep}", "--csv", "{table}"),
    "report": ("{sweep}",),
    "sensitivity": (LANE, "--steps", 2),
    "status": (),
    "prune": (),
    "sync": (),
    "completion": ("bash",),
    "audit": ("{sweep}", "--sample", "10%"),
    "sign": ("{lock}", "--key", "{key}"),
    "key make": ELSEWHERE,  # in proof/test_signatures.py: the second call refuses to replace the key
    "gate": ELSEWHERE,  # in repository/test_gate.py: it needs a repository
    "webhook list": (),
    "webhook test": ELSEWHERE,  # in record/test_webhooks.py: it needs a server
    "webhook retry": (),
    "init": ELSEWHERE,  # in project/test_projects.py: they need a project, and refuse to write a file twice
    "check": ELSEWHERE,
    "eject": ELSEWHERE,
    "copy": ELSEWHERE,
    "ui": SERVES,
}


def leaves(command=cli, above=()):
    """(name, command) of every command that is not a group."""
    for name in command.commands:
        _, inner, _ = command.resolve_command(click.Context(command), [name])
        if isinstance(inner, click.Group):
            yield from leaves(inner, (*above, name))
        else:
            yield " ".join((*above, name)), inner


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A workspace with a closed sweep of the queue, its lock, and a published run."""
    place = Workspace.at(tmp_path_factory.mktemp("ws"))
    closed = play(load_lane(str(LANE)), place)
    call = [
        sys.executable,
        "-m",
        "lanelock",
        "run",
        "--pack",
        "p1",
        "--seed",
        "42",
    ]
    made = subprocess.run(
        [*call, "--publish", "--json", "--workspace", str(place.root)], capture_output=True, env=child_environment()
    )
    keys = tmp_path_factory.mktemp("keys")
    SigningKey.make(keys / "test.pem")
    return place.root, {
        "run": json.loads(made.stdout)["run_id"], "lock": closed.lock.stem, "sweep": closed.sweep,
        "key": keys / "test.pem", "table": tmp_path_factory.mktemp("tables") / "trials.csv",
    }  # fmt: skip


def test_every_command_has_the_three_options_and_says_what_it_does():
    found = dict(leaves())
    assert len(found) > 20
    for name, command in found.items():
        options = {flag for option in command.params for flag in option.opts}
        assert {"--json", "--quiet", "--workspace"} <= options, name
        assert command.help, name
        for option in command.params:
            assert isinstance(option, click.Argument) or option.help, (name, option.name)


def test_every_command_is_called_below():
    assert set(CALLS) == {name for name, _ in leaves()}, "a new command is called here, or says why it cannot be"


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call not in (SERVES, ELSEWHERE)])
def test_json_is_one_object_and_quiet_is_silent(here, held, name):
    root, names = held
    if name == "rollback":
        assert here("promote", names["lock"], "--to", "candidate", "--quiet", workspace=root)[0] in (0, 1)
    call = [str(part).format(**names) for part in (*name.split(), *CALLS[name])]
    code, out, err = here(*call, "--json", workspace=root)
    assert code in (0, 1) and err == "" and out.count("\n") == 1 and isinstance(json.loads(out), dict), (out, err)
    if name == "campaign play":  # it froze its engine
        assert here("reopen", "queue", "--why", "again", "--quiet", workspace=root) == (0, "", "")
    assert here(*call, "--quiet", workspace=root) == (code, "", "")
    if name == "campaign play":
        assert here("reopen", "queue", "--why", "for the others", "--quiet", workspace=root) == (0, "", "")


def test_exit_codes_are_in_the_help(here, tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = cli.get_help(click.Context(cli, info_name=PROGRAM))
    for code in ("0", "1", "2", "3", "130"):
        assert any(line.split()[:1] == [code] for line in text.splitlines()), code


NOTHING = TrialRecord({}, "", {}, {}, {}, 0)


def progress(done, seconds, best=None, vetoed=(), failed=(), budget=40, budget_seconds=600.0):
    return Progress(done, budget, best, dict(vetoed), failed, seconds, budget_seconds)


def test_rate_and_time_left_are_those_of_now():
    lane = load_lane(str(LANE))
    best = Trial(7, {}, (0.25, 11.0), {}, {})
    pace, told, vetoes = in_words(lane, progress(20, 10.0, best, [("crowd", 3), ("atom", 9)]))
    assert pace == "20/40 trials in 10.0 s, 2.0/s, 10 s left"
    assert told == "best trial 7: margin 0.2500, servers 11.0000" and vetoes == "vetoed: atom 9, crowd 3"
    pace, told, vetoes = in_words(lane, progress(30, 5.0), since=progress(28, 4.0))
    assert pace == "30/40 trials in 5.0 s, 2.0/s, 5 s left", "what a resumed sweep found done is not its speed"
    assert told == "no trial is graded yet" and vetoes == "vetoed: none"
    assert in_words(lane, progress(4, 8.0, budget_seconds=10.0))[0].endswith(" 2 s left"), (
        "the budget in seconds ends it"
    )
    assert in_words(lane, progress(1, 4.0))[0].endswith("2 min 36 s left")
    assert in_words(lane, replace(progress(4, 8.0), best=Trial(1, {}, None, {}, {})))[1] == "no trial is graded yet"


def test_a_sweep_is_watched_in_lines_and_on_a_screen(tmp_path):
    call = [
        sys.executable,
        "-m",
        "lanelock",
        "sweep",
        str(LANE),
        "--workspace",
        tmp_path,
    ]
    done = subprocess.run(call, capture_output=True, text=True, env=child_environment())
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and 2 <= len(lines) <= 10
    assert lines[-1].startswith("sweep queue: 24/24 trials in ")
    assert "/s; closing: sensitivity, proof, tracking; best trial " in lines[-1]
    assert "vetoed: crowd " in lines[-1]

    ours, theirs = pty.openpty()
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=theirs, env=child_environment(TERM="xterm")) as child:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            seen += part
        out = child.stdout.read()
    os.close(ours)
    screen = seen.decode()
    for part in (
        "surveying the authority",
        "24/24 trials in ",
        "best trial ",
        "margin ",
        "vetoed: crowd ",
        "closing: ",
    ):
        assert part in screen, part
    assert out.decode().startswith("GO  ")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_names_by_the_script_that_is_printed(held, tmp_path):
    root, names = held
    program = tmp_path / PROGRAM
    program.write_text(f"#!{sys.executable}\nfrom lanelock.sweeps.terminal.cli import main\nmain()\n")
    program.chmod(0o755)

    def complete(*words):
        said = " ".join(f'"{word}"' for word in words)
        script = f"""
            eval "$({PROGRAM} completion bash)" && complete -p {PROGRAM} >&2
            COMP_WORDS=({PROGRAM} {said}); COMP_CWORD={len(words)}; COMPREPLY=()
            _{PROGRAM}_completion {PROGRAM} 2>/dev/null
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        environment = child_environment(PATH=f"{tmp_path}:{os.environ['PATH']}", LANELOCK_WORKSPACE=str(root))
        found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
        assert f"_{PROGRAM}_completion {PROGRAM}" in found.stderr, found.stderr
        return found.stdout.split()

    assert complete("sta") == ["status"]
    assert complete("sweep", "p3") == ["p3", "p3_stretch", "p3_wide"]
    assert complete("lock", "show", names["lock"][:9]) == [names["lock"]]
    assert complete("compare", "p1", f"{names['sweep']}/2") == [f"{names['sweep']}/{n}" for n in (2, 20, 21, 22, 23)]
    assert complete("score", names["run"][:5]) == [names["run"]]
    assert complete("run", "--sco") == ["--score"]


def test_the_three_shells_have_a_script(here, tmp_path):
    for shell in ("bash", "zsh", "fish"):
        code, out, err = here("completion", shell, workspace=tmp_path / "none")
        assert code == 0 and f"_LANELOCK_COMPLETE={shell}_complete" in out and err == ""
    assert not (tmp_path / "none").exists()
    assert ROOT.exists()
