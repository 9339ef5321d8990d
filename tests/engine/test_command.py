"""Engines that are commands: what reaches a program, what comes back, and what is said where nothing does."""

import json
import os
import sys
import tomllib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import SCHEMA, pack, program, shell, tables

from lanelock.engine.chain import bind
from lanelock.engine.command import CommandEngine
from lanelock.engine.commands import configuration
from lanelock.policies import EngineError, IntegrityError, LanelockError, PolicyError, pack_of

ECHO = """(printf '{"words":["%s"' "$0"; for a; do printf ',"%s"' "$(printf %s "$a" | tr '"' _)"; done; echo "]}")"""


def refusal(make):
    with pytest.raises(PolicyError) as refused:
        make()
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- what reaches a program -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("./program --x={level} {count}{{}} -{seed}- {law}", ["--x=1.5", "3{}", "-7-", "--rm -rf /; $(x) `y` é"]),
        ("./program {args}", ["--count", "3", "--law", "--rm -rf /; $(x) `y` é", "--level", "1.5", "--seed", "7"]),
        ("./program {args} {seed}", ["--count", "3", "--law", "--rm -rf /; $(x) `y` é", "--level", "1.5", "7"]),
        (["./program", "{law}", "a b", "{params}", "{seed}"],
         ["--rm -rf /; $(x) `y` é", "a b", "{_count_:3,_law_:_--rm -rf /; $(x) `y` é_,_level_:1.5}", "7"]),
        ("./program {config} {seed} {out}", ["config.json", "7", "out.json"]),
    ],
)  # fmt: skip
def test_a_placeholder_is_filled_and_a_word_is_one_argument(tmp_path, command, words):
    engine = shell(tmp_path, f"{ECHO} | tee out.json", command)
    assert tables(engine.evaluate(pack(law="--rm -rf /; $(x) `y` é"), 7))["output"]["words"][1:] == words


def test_arguments_alone_follow_the_command(tmp_path):
    words = tables(shell(tmp_path, ECHO, "./program", config="args").evaluate(pack(), 7))["output"]["words"]
    assert words[1:] == ["--count", "3", "--level", "1.5", "--seed", "7"]


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("toml", tomllib.loads), ("yaml", yaml.safe_load)])
@settings(max_examples=60, deadline=None)
@given(
    level=st.floats(-1e9, 1e9), count=st.integers(0, 2**52), law=st.text(st.characters(codec="utf-8")),
    vector=st.lists(st.floats(allow_nan=False, allow_infinity=False)),
)  # fmt: skip
def test_a_configuration_reads_back_as_it_was(form, read, level, count, law, vector):
    law = law.replace("\x85", "") if form == "yaml" else law
    document = {"level": level, "count": count, "law": law, "deep": {"vector": vector, "flag": True}}
    back = read(configuration.written(document, form).decode())
    assert back == document and [type(back[name]) for name in document] == [type(document[name]) for name in document]
    assert list(map(repr, back["deep"]["vector"])) == list(map(repr, vector))


@pytest.mark.parametrize("form", configuration.FORMS)
@pytest.mark.parametrize(("one", "other"), [({"level": 3}, {"level": 3.0}), ({"level": 0.0}, {"level": -0.0})])
def test_packs_of_one_digest_give_one_configuration(tmp_path, form, one, other):
    words = 'printf \'{"words":["%s"]}\' "$(cat config.* 2>/dev/null || echo "$@")" | tr "\\n" " "'
    engine = shell(tmp_path, words.replace("cat config.*", 'cat config.* | tr \'"\' _'),
                   "./program {config}" if form != "args" else "./program", config=form)  # fmt: skip
    assert pack(**one).digest == pack(**other).digest
    assert engine.evaluate(pack(**one), 1).digests() == engine.evaluate(pack(**other), 1).digests()


def test_a_program_sees_the_stated_environment_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "not for programs")
    engine = shell(tmp_path, 'env | sort | sed "s/=.*//" | paste -sd, | sed "s/.*/{\\"names\\":[\\"&\\"]}/"',
                   env={"OMP_NUM_THREADS": "1"})  # fmt: skip
    names = tables(engine.evaluate(pack(), 1))["output"]["names"][0].split(",")
    assert set(names) - {"PWD", "_", "SHLVL", "OLDPWD"} == {"HOME", "TMPDIR", "PATH", "LANG", "TZ", "OMP_NUM_THREADS"}


def test_a_program_has_a_folder_of_its_own_that_is_removed(tmp_path):
    engine = shell(tmp_path, 'test "$HOME" = "$PWD" && test "$(ls)" = config.json || exit 3; mkdir -p a/b; touch a/b/c;'
                   'chmod 000 a; printf \'{"at":["%s"]}\' "$PWD"')  # fmt: skip
    at = [tables(engine.evaluate(pack(), 1))["output"]["at"][0] for _ in range(2)]
    assert at[0] != at[1] and not any(os.path.lexists(place) for place in at)


def test_files_of_the_users_folder_are_reached_by_their_names(tmp_path):
    place = tmp_path / "a folder {of} mine"
    (place / "data").mkdir(parents=True)
    (place / "data" / "factor.txt").write_text("2.5")
    (place / "sim.py").write_text(
        "import json, sys\nprint(json.dumps({'xy'[i]: float(open(sys.argv[i + 1]).read()) for i in range(2)}))\n"
    )
    command = [sys.executable, "-IS", "sim.py", "data/factor.txt", "{folder}/data/factor.txt", "{config}"]
    engine = CommandEngine("heater", command, SCHEMA, folder=place)
    assert tables(engine.evaluate(pack(), 1))["metrics"] == {"name": ["x", "y"], "value": [2.5, 2.5]}


# --- what is refused at once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("./program {conf}", {}, ["{conf}", "known: {config}, {out}, {seed}, {args}, {params}, {world}, {folder}"]),
        ("./program {level!r} {config}", {}, ["{level!r}"]),
        ("./program {config:3}", {}, ["{config:3}"]),
        ("./program '{\"a\": 1}' {config}", {}, ["{{ for a brace"]),
        ("./program { {config}", {}, ["brace"]),
        ("./program --all={args}", {}, ["argument of its own"]),
        ("./program {level} {seed}", {}, ["count does not reach", "{count}"]),
        ("./program {level} {count} {law}", {}, ["seed does not reach", 'seed_as = ""']),
        ("./program", {}, ["level does not reach"]),
        ("./program {config}", {"config": "args"}, ["no file is written"]),
        ("./program {config}", {"config": "xml"}, ["'xml'", "json, toml, yaml, args"]),
        ("./program {config}", {"seed_as": "level"}, ["is a parameter"]),
        ("./program {config}", {"output": "../out.csv"}, ["folder that the program runs in"]),
        ("./program {config}", {"output": "/etc/passwd"}, ["folder that the program runs in"]),
        ("./program {config}", {"output": "a.xlsx"}, [".csv", ".npz", "folder"]),
        ("./program {config}", {"output": "config.json"}, ["name of the configuration"]),
        ("./program {config}", {"timeout_s": 0}, ["timeout_s"]),
        ("./program {config}", {"memory_mb": 1}, ["memory_mb"]),
        ("./program {config}", {"output_mb": 0}, ["output_mb"]),
        ("./program {config}", {"code": ["lost.py"]}, ["code", "lost.py", "no such file"]),
        ("./program {config}", {"env": {"A=B": "1"}}, ["env", "'A=B'"]),
        ("./program {config}", {"server": True}, ["{config} in the command of a server"]),
        ("./lost {config}", {}, ["/lost: no such program"]),
        ("program {config}", {}, ["no such program on PATH", "./program"]),
        ("./text {config}", {}, ["not executable", "chmod +x"]),
        ("./bare {config}", {}, ["first line such as #!/bin/sh"]),
        ("./windows {config}", {}, ["names no interpreter"]),
        ("{folder}/lost {config}", {}, ["no such program"]),
        ("{config}", {}, ["may have no placeholder"]),
        ("./program 'open", {}, ["quotation"]),
        ("", {}, ["not a program"]),
        ([], {}, ["not a program"]),
        (["./program", 3], {}, ["not a program"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_a_run(tmp_path, command, options, words):
    (tmp_path / "text").write_text("#!/bin/sh\n")
    program(tmp_path, "echo {}\n", "bare")
    program(tmp_path, "#!/bin/nosuch\r\necho {}\n", "windows")
    said = refusal(lambda: shell(tmp_path, "echo {}", command, **options))
    assert said.startswith("engine heater: ") and all(word in said for word in words)


def test_a_parameter_called_like_a_placeholder_is_no_riddle(tmp_path):
    schema = {**SCHEMA, "required": ["out"], "properties": {"out": {"type": "number"}}}
    program(tmp_path, "#!/bin/sh\ncat\n")
    make = lambda command: CommandEngine("heater", command, schema, folder=tmp_path)  # noqa: E731
    assert "both a parameter and a placeholder" in refusal(lambda: make("./program {out} {seed}"))
    make("./program {config}")


# --- what a program may end in --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("echo one >&2; echo unstable gain >&2; exit 7", {}, "exit 7: one | unstable gain"),
        ("echo told on stdout; exit 2", {}, "exit 2: told on stdout"),
        ("exit 3", {}, "exit 3"),
        ("printf 'File x\\n  f(a)\\n  ~^^^\\nKeyError: a\\n' >&2; exit 1", {}, "exit 1: File x | f(a) | KeyError: a"),
        ("kill -SEGV $$", {}, "killed by SIGSEGV"),
        ("printf '\\033[31mred\\033[0m\\r\\n\\001two\\n' >&2; exit 1", {}, "exit 1: red | two"),
        ("echo the token is hunter22 >&2; exit 1", {"env": {"API_TOKEN": "hunter22"}}, "exit 1: the token is ***"),
        ("trap '' TERM; sleep 1000", {"timeout_s": 0.2}, "ran longer than 0.2 s, killed"),
        ("yes >&2", {"output_mb": 1}, "wrote a file larger than 1 MiB, killed"),
        ("exec head -c 100000000 /dev/zero", {"output_mb": 1}, "wrote a file larger than 1 MiB, killed"),
        ("exit 0", {}, "stdout: the program left this file empty"),
        ("echo '{\"a\": NaN}'", {}, "stdout: /a: nan is not a JSON number"),
        ("echo '{\"a\": 1'", {}, "stdout: line 2 column 1: not JSON"),
        ("echo '{\"a\": 1, \"a\": 2}'", {}, "stdout: /a: the field is given twice"),
        ("echo 5", {}, "is int 5"),
        ("echo '{\"a\": \"high\"}'", {}, "a: str 'high' is neither a number"),
        ("echo here >&2", {"output": "out.csv"}, "out.csv: the program wrote no such file: here"),
        (": > out.csv", {"output": "out.csv"}, "out.csv: the program left this file empty"),
        ("ln -s /etc/passwd out.csv", {"output": "out.csv"}, "out.csv: a link"),
        ("ln -s /etc/passwd out/a.csv", {"output": "out/"}, "out/a.csv: a link"),
        ("rmdir out; ln -s /etc out", {"output": "out/"}, "out/: a link"),
        ("rmdir a; ln -s /etc a", {"output": "a/out.csv"}, "a/out.csv"),
        ("mkfifo out/a.csv", {"output": "out/"}, "out/a.csv: a link, folder or device"),
        ("mkdir out/a", {"output": "out/"}, "out/a: a link, folder or device"),
        ("exit 0", {"output": "out"}, "out/: the program left this folder empty"),
        ("echo x > out/a.txt", {"output": "out/"}, "out/a.txt: none of .json, .csv"),
        ("for i in $(seq 1001); do : > out/$i.csv; done", {"output": "out/"}, "out/: 1,001 files; at most 1,000"),
        ("for i in 1 2; do head -c 600000 /dev/zero > out/$i.csv; done", {"output": "out/", "output_mb": 1},
         "out/2.csv: the output is larger than 1 MiB"),
        ('echo \'{"a": [1]}\' > out/a.json; printf "x\\n1\\n" > out/a.csv', {"output": "out/"}, "a is already given"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_that_says_what_happened(tmp_path, text, options, said):
    engine = shell(tmp_path, text, **options)
    with pytest.raises(LanelockError) as failed:
        engine.evaluate(pack(), 1)
    message = str(failed.value)
    assert message.startswith("engine heater: ") and said in message and len(message) < 500
    assert message.isprintable()


def test_an_error_carries_the_whole_log_up_to_a_mebibyte(tmp_path):
    engine = shell(tmp_path, "for i in $(seq 100); do echo line $i >&2; done; exit 7")
    with pytest.raises(EngineError, match=r"exit 7: line 98 \| line 99 \| line 100$") as failed:
        engine.evaluate(pack(), 1)
    assert failed.value.details.splitlines() == [f"line {number}" for number in range(1, 101)]
    engine = shell(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 7")
    with pytest.raises(EngineError) as failed:
        engine.evaluate(pack(), 1)
    assert (
        len(str(failed.value)) < 400 and "left out" in failed.value.details and len(failed.value.details) < 1.1 * 2**20
    )


def test_a_program_that_takes_too_much_memory_is_ended(tmp_path):
    sources = {
        "at once": "x = bytearray(300 << 20)",
        "in children": "import os\nfor i in range(3):\n os.fork()\nx = bytearray(40 << 20)",
    }
    for source in sources.values():
        program(tmp_path, f"#!{sys.executable} -IS\nimport time\n{source}\ntime.sleep(1000)\n")
        engine = CommandEngine("heater", "./program {config}", SCHEMA, folder=tmp_path, memory_mb=100, timeout_s=60)
        with pytest.raises(EngineError, match="used more than 100 MiB of memory, killed"):
            engine.evaluate(pack(), 1)


def test_a_program_that_writes_to_its_configuration_changes_no_other_run(tmp_path):
    engine = shell(tmp_path, 'cp config.json out.json; echo "{}" > config.json', "./program {config} {out}")
    first = engine.evaluate(pack(), 1)
    assert engine.evaluate(pack(), 1).digests() == first.digests()
    assert first.sealed.compared["config.json"] == b'{"count":3,"level":1.5,"seed":1}\n'


# --- the code version -----------------------------------------------------------------------------------------------


def test_the_code_version_covers_command_files_forms_and_environment(tmp_path):
    (tmp_path / "law.txt").write_text("1")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("1")

    def version(text="echo {}", command="./program {config} law.txt", **options):
        return shell(tmp_path, text, command, **{"code": ["lib"], **options}).code_version

    first, others = version(), [
        version(text="echo {} "), version(config="yaml"), version(output="out.csv"), version(env={"A": "1"}),
        version(command="./program law.txt {config}"), version(seed_as="s"), version(code=[]),
    ]  # fmt: skip
    assert version() == first == version(timeout_s=5, memory_mb=64) == version(command="./program '{config}' law.txt")
    for file in ("law.txt", "lib/a.py"):
        (tmp_path / file).write_text("2")
        others.append(version())
    assert len({first, *others}) == len(others) + 1


def test_a_program_that_changes_while_it_is_in_use_stops_what_uses_it(tmp_path):
    engine = shell(tmp_path, "echo '{\"a\": 1}'")
    first = engine.evaluate(pack(), 1)
    text = (tmp_path / "program").read_text()
    program(tmp_path, text)  # written anew, with the same content
    assert engine.evaluate(pack(), 1).digests() == first.digests()
    program(tmp_path, text.replace("1", "2"))
    with pytest.raises(IntegrityError, match="program was changed while it was in use"):
        engine.evaluate(pack(), 1)
    (tmp_path / "program").unlink()
    with pytest.raises(IntegrityError, match="program was changed"):
        engine.evaluate(pack(), 1)
    program(tmp_path, text)
    assert engine.evaluate(pack(), 1).digests() == first.digests()


def test_a_program_that_changes_itself_is_noticed(tmp_path):
    engine = shell(tmp_path, 'echo "# more" >> "$0"; exit 1')
    with pytest.raises(IntegrityError, match="program was changed"):
        engine.evaluate(pack(), 1)


def test_a_parameter_without_a_value_fails_the_run_that_asks_for_it(tmp_path):
    engine = shell(tmp_path, "echo {}", "./program {level} {count} {law} {seed}")
    with pytest.raises(EngineError, match="law has no value"):
        engine.evaluate(pack(), 1)


def test_toml_has_no_null(tmp_path):
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "none": {"type": "null"}}}
    program(tmp_path, "#!/bin/sh\necho {}\n")
    engine = CommandEngine("heater", "./program {config}", schema, folder=tmp_path, config="toml")
    with pytest.raises(EngineError, match="TOML has no null"):
        engine.evaluate(pack_of("one", {"params": {"level": 1, "count": 1, "none": None}}, engine.policy_schemas), 1)


def test_a_command_stands_on_the_tables_of_another_engines_run(tmp_path):
    """Its world is a folder of Parquet files, and part of its run's id."""
    schema = {**SCHEMA, "required": ["scale"], "properties": {"scale": {"type": "number"}}}
    (tmp_path / "above").mkdir()
    above = shell(tmp_path / "above", 'echo \'{"x": [1, 2], "n": 3}\'', policy="upper")
    program(
        tmp_path,
        f"#!{sys.executable}\nimport json, sys\nimport pyarrow.parquet as pq\n"
        "table = pq.read_table(sys.argv[1] + '/output.parquet').to_pydict()\n"
        "print(json.dumps({'sum': sum(table['x']) * json.load(open(sys.argv[2]))['scale']}))\n",
    )
    make = lambda command: CommandEngine("lower", command, schema, folder=tmp_path)  # noqa: E731
    schemas = {"upper": SCHEMA, "params": schema}
    chained = pack_of("one", {"upper": {"level": 1, "count": 1}, "params": {"scale": 2}}, schemas)
    run = bind(make("./program {world} {config}"), above).evaluate(chained, 1)
    assert tables(run) == {"metrics": {"name": ["sum"], "value": [6.0]}}
    with pytest.raises(EngineError, match="does not reach it"):
        bind(make("./program {config}"), above).evaluate(chained, 1)
    with pytest.raises(EngineError, match="it has no world"):
        make("./program {world} {config}").evaluate(chained.part({"params": schema}), 1)
