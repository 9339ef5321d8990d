"""Every statement of the plan has a check that runs, or is said to be open; the page of docs/ says the same."""

import plan_coverage as coverage
import pytest

STATEMENTS, CHECKS = coverage.statements(), coverage.checked_by()


def test_a_tie_names_a_statement_that_there_is():
    assert CHECKS.keys() <= STATEMENTS.keys(), sorted(CHECKS.keys() - STATEMENTS.keys())


def test_what_is_not_open_is_checked_and_what_is_open_is_not():
    unchecked = [row.number for row in STATEMENTS.values() if row.open is None and row.number not in CHECKS]
    assert not unchecked, f"no test is tied to {', '.join(unchecked)}"
    both = [row.number for row in STATEMENTS.values() if row.open is not None and row.number in CHECKS]
    assert not both, f"said to be open, and checked: {', '.join(both)}"


def test_whatever_is_tied_runs_by_default_and_can_fail():
    faults = [f"{test.name}: {test.fault}" for test in coverage.tied() if test.fault]
    assert not faults, "\n".join(faults)


def test_statements_are_short_and_say_each_thing_once():
    says = [row.says for row in STATEMENTS.values()]
    assert len(set(says)) == len(says)
    for row in STATEMENTS.values():
        assert row.says.endswith(".") and len(row.says) <= 160 and "|" not in row.says, row
        assert row.open is None or row.open.partition(": ")[0] in ("building", "later", "missing"), row


def test_the_page_is_what_list_and_ties_give(request):
    """`pytest tests/plan --golden` writes it anew."""
    if request.config.getoption("--golden"):
        coverage.PAGE.write_text(coverage.page(), encoding="utf-8")
    assert coverage.PAGE.read_text(encoding="utf-8") == coverage.page()


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{tie}\ndef test_x():\n    assert 1", None),
        ("{tie}\ndef test_x():\n    with pytest.raises(ValueError):\n        int('x')", None),
        ("@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.plan('9'))])\n"
         "def test_x(x):\n    assert x", None),
        ("{tie}\ndef test_x():\n    print(1)", "nothing in it can fail"),
        ("{tie}\n@pytest.mark.slow\ndef test_x():\n    assert 1", "the usual run: slow"),
        ("{tie}\n@pytest.mark.skipif(True, reason='')\ndef test_x():\n    assert 1", "the usual run: skipif"),
        ("{tie}\n@pytest.mark.xfail\ndef test_x():\n    assert 0", "the usual run: xfail"),
        ("{tie}\ndef test_x():\n    pytest.skip('later')\n    assert 0", "the usual run: skip"),
        ("pytestmark = [pytest.mark.slow]\n{tie}\ndef test_x():\n    assert 1", "the usual run: slow"),
        ("@pytest.mark.slow\nclass TestX:\n    {tie}\n    def test_x(self):\n        assert 1", "the usual run: slow"),
    ],
)  # fmt: skip
def test_a_test_that_does_not_run_or_cannot_fail_is_no_check(tmp_path, monkeypatch, source, fault):
    monkeypatch.setattr(coverage, "TESTS", tmp_path)
    (tmp_path / "test_it.py").write_text(source.format(tie="@pytest.mark.plan('9')"))
    (found,) = coverage.tied()
    assert found.numbers == ("9",)
    assert found.fault is None if fault is None else found.fault.endswith(fault)


@pytest.mark.parametrize(
    "source", ["{tie}\ndef helper():\n    assert 1", "def test_y():\n    {tie}\n    def test_x():\n        assert 1"]
)
def test_what_pytest_does_not_collect_is_no_test(tmp_path, monkeypatch, source):
    monkeypatch.setattr(coverage, "TESTS", tmp_path)
    (tmp_path / "test_it.py").write_text(source.format(tie="@pytest.mark.plan('9')"))
    assert coverage.tied() == ()


def test_a_number_that_is_computed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "TESTS", tmp_path)
    (tmp_path / "test_it.py").write_text("@pytest.mark.plan(str(9))\ndef test_x():\n    assert 1")
    with pytest.raises(ValueError, match="a literal number"):
        coverage.tied()
