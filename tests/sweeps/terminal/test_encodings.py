"""What is printed in three encodings, whatever a name holds: nothing a terminal acts on, and no line too long."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import child_environment
from hypothesis import given
from hypothesis import strategies as st
from lanes import QUEUE, lane_with

from lanelock.policies import IntegrityError
from lanelock.sweeps.pages.text import columns, printable

C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = {"ascii": C, "latin-1": {"PYTHONIOENCODING": "latin-1"}, "utf-8": {"PYTHONIOENCODING": "utf-8"}}
ODD = "Ω≤–café \x1b[31m\u202egnp.\u2066\u200b\u2028\x85\x00\udcff [bold]:warning:"


def answered(*arguments, encoding="utf-8", workspace, **environment):
    """Runs the command: (exit code, stdout, stderr), each decoded as it was asked for."""
    command = [sys.executable, "-m", "lanelock", *map(str, arguments)]
    environment = child_environment(LANELOCK_WORKSPACE=str(workspace), **environment)
    done = subprocess.run(command, capture_output=True, env=environment)
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_command_answers_in_any_encoding_whatever_names_hold(tmp_path, encoding):
    folder = tmp_path / "Ωdd – café"
    folder.mkdir()
    lane_with(folder, title="Ω≤–café \x1b[31m\u202egnp\u200b [bold]:warning:")
    environment = {"encoding": encoding, "workspace": tmp_path / "w", **ENCODINGS[encoding]}
    code, out, err = answered("sweep", folder / "lane.json", "--trials", 2, **environment)
    assert code == 0 and "GO" in out and "2/2 trials" in err, err
    assert "\x1b" not in out + err and "\u202e" not in out + err
    code, out, err = answered("sweep", "Ω\x1b[31m\u202egnp\u200b", **environment)
    assert code == 2 and err.count("\n") == 1 and "\\x1b[31m" in err and "\x1b" not in err
    code, out, err = answered("lock", "show", "queue-1", **environment)
    assert code == 0 and "\\x1b[31m\\u202egnp\\u200b [bold]:warning:" in out, err


def test_a_workspace_whose_name_is_no_text_is_refused_before_anything_is_spent(tmp_path):
    place = os.fsencode(tmp_path) + b"/w\xff"
    code, _, err = answered("sweep", QUEUE / "lane.json", workspace=os.fsdecode(place))
    assert code == 2 and err.count("\n") == 1 and "\\udcff: this name is no text" in err
    assert not Path(os.fsdecode(place)).exists()


@given(st.text(st.characters(codec=None) | st.sampled_from(ODD), max_size=60))
def test_what_is_printable_has_nothing_that_a_terminal_acts_on(text):
    shown = printable(text)
    kinds = {unicodedata.category(one) for one in shown.replace("\n", "").replace("\t", "")}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"} and printable(shown) == shown
    shown.encode("utf-8")
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    "code", [0, 7, 8, 0xD, 0x1B, 0x7F, 0x85, 0x9B, 0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F),
             *range(0x2060, 0x2065), *range(0x2066, 0x2070), 0xFEFF, 0xFFF9, 0xD800, 0xDFFF, 0xE0001, 0xE0041],
)  # fmt: skip
def test_each_sign_without_a_form_is_an_escape(code):
    assert printable(f"a{chr(code)}b") == f"a{chr(code).encode('unicode_escape', 'surrogatepass').decode()}b"


def test_what_people_write_stays_as_it_is():
    text = "Zürich\u00a0– 東京, Ω ≤ 5 %\tقيمة\n🙂"
    assert printable(text) == text


@pytest.mark.parametrize("length", [1_999, 2_000, 2_001, 100_000])
def test_no_line_is_longer_than_2000_characters_and_the_cut_says_how_much_is_gone(length):
    first, second = printable("x" * length + "\nshort").split("\n")
    assert len(first) == min(length, len(first)) <= 2_000 and second == "short"
    if length > 2_000:
        kept, _, rest = first.partition("… (")
        assert int(rest.split()[0].replace(",", "")) == length - len(kept)
    escaped = printable("\x1b" * length)
    assert len(escaped) <= 2_000


def test_a_message_of_any_length_is_one_short_line(here, monkeypatch, tmp_path):
    from lanelock.sweeps.terminal import cli

    def torn(name):
        raise IntegrityError("x" * 200_000 + "\x1b[2J")

    monkeypatch.setattr(cli, "_imported", torn)
    code, _, err = here("status", workspace=tmp_path)
    assert code == 3 and err.count("\n") == 1 and len(err) <= 2_001 and "more characters)" in err


def test_a_table_shows_a_name_as_it_is_written():
    assert ":warning: [bold]" in columns(("name",), [(":warning: [bold]",)])


def test_json_is_ascii_and_holds_what_the_text_escapes(lanelock, tmp_path):
    code, out, err = lanelock("policy", "validate", tmp_path / "Ω\u202e", "--json", **C)
    assert code == 2 and out == "" and err.isascii() and err.count("\n") == 1
    assert json.loads(json.dumps({"name": ODD}))["name"] == ODD
