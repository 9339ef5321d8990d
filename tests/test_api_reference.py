"""The reference of the Python names is built whole: every public name with its docstring, without a warning."""

import re
import subprocess
import sys
from html import unescape
from inspect import ismodule

import pytest
from conftest import ROOT, child_environment

import lanelock
import lanelock.service


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Where the reference was written, by a process of its own: it asks for every name."""
    folder = tmp_path_factory.mktemp("api")
    call = [sys.executable, "-W", "error", ROOT / "docs" / "api_reference.py", folder]
    child = subprocess.run(call, capture_output=True, text=True, env=child_environment())
    assert (child.returncode, child.stderr) == (0, ""), child.stderr[-2000:]
    return folder


def plain(text):
    """The words of a page or of a docstring, without marks of either."""
    return re.findall(r"\w+", unescape(re.sub(r"<[^>]+>", "", text)))


def documented(page):
    """The names that have a section of their own on a page."""
    return {name for name in re.findall(r'<section id="([\w.]+)"', page) if "." not in name}


def test_every_public_name_has_a_section_that_says_what_it_is(pages):
    page = (pages / "lanelock.html").read_text()
    assert documented(page) == set(lanelock.__all__)
    words = " ".join(plain(page))
    for name in lanelock.__all__:
        public = getattr(lanelock, name)
        first = (public.__call__ if ismodule(public) else public).__doc__.strip().splitlines()[0]
        assert " ".join(plain(first)) in words, name


def test_the_service_is_documented_and_nothing_private_is(pages):
    written = {str(path.relative_to(pages)) for path in pages.rglob("*.html")}
    assert written == {"index.html", "lanelock.html", "lanelock/service.html"}
    public = {name for name in lanelock.service.__all__ if not name.startswith("_")}
    assert public <= documented((pages / "lanelock" / "service.html").read_text())
