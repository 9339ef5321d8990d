"""What the README tells a newcomer to type is typed here, in order, in one workspace."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def tour():
    """The commands of "Five minutes", their remarks left off; the one that serves until it is stopped is left out."""
    section = README.partition("## Five minutes")[2].partition("\n## ")[0]
    lines = re.findall(r"^    proofmark (.*?)(?:\s+#.*)?$", section, re.MULTILINE)
    return [shlex.split(line) for line in lines if line != "ui"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("tour")


def test_the_five_minutes_work_as_they_are_written(proofmark, workspace):
    commands = tour()
    assert len(commands) >= 8
    for command in commands:
        code, out, err = proofmark(*command, workspace=workspace)
        assert code in (0, 1) and out and "Traceback" not in err, (command, err)


def test_every_command_the_readme_names_exists(proofmark):
    named = {match.split()[0] for match in re.findall(r"proofmark ([a-z]+)", README)}
    _, out, _ = proofmark("--help")
    known = set(re.findall(r"^  ([a-z]+)", out, re.MULTILINE))
    assert named and named <= known, named - known


def test_what_the_readme_says_of_the_floor_is_what_is_said(proofmark, workspace):
    code, out, _ = proofmark("sweep", "p3", workspace=workspace)
    assert code == 1
    quoted = README.partition("<!-- output: proofmark sweep p3 -->")[2].partition("\n\n")[0]
    assert " ".join(quoted.split()) in " ".join(out.split())
