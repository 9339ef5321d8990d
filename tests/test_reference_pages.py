"""The pages that are references name every field of the schema that they explain."""

import re

import pytest
from conftest import ROOT

from lanelock.policies.documents import read_json

PAGES = {"gates-and-metrics.md": ("gates", {"$schema"}), "project-file.md": ("project", {"$schema"})}


def fields(schema):
    """Every field that a document of this schema may have, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}) if isinstance(schema.get("properties"), dict) else ()
        for inner in schema.values():
            yield from fields(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from fields(inner)


@pytest.mark.parametrize("page", PAGES)
def test_a_reference_names_every_field_and_value_of_its_schema(page):
    name, ours = PAGES[page]
    schema = read_json(ROOT / "policies" / "schemas" / f"{name}.schema.json")
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    named = {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[\w$-]+|[<>=]=", quoted)}
    asked = set(fields(schema)) - ours
    assert len(asked) > 20
    assert not sorted(asked - named), "fields that the page does not explain"
    values = {value for value in _choices(schema) if isinstance(value, str)}
    assert not sorted(values - named), "values that the page does not explain"


def _choices(schema):
    if isinstance(schema, dict):
        yield from schema.get("enum", ()) if isinstance(schema.get("enum"), list) else ()
        for inner in schema.values():
            yield from _choices(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _choices(inner)
