"""What a document says is text wherever a page shows it, never markup."""

from lanelock.sweeps.pages.page import Heading, Paragraph, Points, as_html, as_markdown, banner, facts, table

EVIL = "<script>alert('x')</script> a | b `<b>bold</b>` &amp;"


def test_no_text_becomes_markup():
    blocks = [
        Heading(1, EVIL), Paragraph(EVIL), Points((EVIL,)), table((EVIL,), [(EVIL,)]), facts({EVIL: EVIL}),
        banner(EVIL, "bad", EVIL, EVIL, EVIL, [(EVIL, EVIL)]),
    ]  # fmt: skip
    page = as_html(EVIL, blocks)
    assert "<script" not in page and "<b>" not in page and "&amp;amp;" in page
    assert "<code>&lt;b&gt;bold&lt;/b&gt;</code>" in page, "what stands in backticks is code"


def test_a_bar_in_a_cell_starts_no_column():
    rows = [line for line in as_markdown([table(("one",), [("a | b",)])]).splitlines() if "a " in line]
    assert rows == ["| a \\| b |"]
