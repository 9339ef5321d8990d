"""A project: one file, `lanelock.toml`, and the documents that it stands for.

The file names an engine, its parameters, metrics and gates, and what a sweep improves. `Project` writes out what it
leaves out: the schema of the parameters, the pack `start`, the gate file and the lane, all of which are the documents
that anyone could have written by hand. How the engine is run is elsewhere (`engine.function`, `engine.command`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.policies.errors import LanelockError, PolicyError, referred_to_by
from lanelock.policies.expressions import parse
from lanelock.policies.gate_lines import gate_row
from lanelock.policies.names import name_from
from lanelock.policies.notations import read_document

FILE = "lanelock.toml"
START = "start"  # name of the pack of a project's own values
PARAMS = "params"  # name of its one policy

# Table of the file -> severity of its gates. The order is that of the gate file.
SEVERITIES = {
    "preconditions": "precondition", "gates": "gate", "vetoes": "veto", "rails": "rail", "observe": "observe",
}  # fmt: skip
DEFAULTS: Mapping[str, Any] = {
    "seeds": (1, 2, 3),
    "trials": 40,
    "seconds": 3600,
    "batch": 4,
    "reserve": 0,
    "confirm_seeds": 8,
}  # of [sweep]
_BANDS = ("B", "B+", "A", "A+")
_OWN = {  # fields of [sweep] that are no lane's
    "title", "why", "minimize", "maximize", "seeds", "trials", "seconds", "max_failures", "batch", "accept", "reserve",
    "confirm_seeds",
    "decision", "constraints",
}  # fmt: skip
_COMPILED = (  # fields of a lane that follow from the rest of the file
    "$schema", "id", "engine", "authority", "fixed", "knobs", "derived", "gates", "objectives", "budget", "after",
    "waiver",
)  # fmt: skip
_MEANING = ("unit", "what", "worst", "state")  # fields of a metric that do not define it
_RANGE = {"low", "high", "choices"}  # of which one makes a parameter a knob
_SAYS = {"value", "minimum", "maximum", "unit", "what"}  # fields of a parameter that are no knob's
_FIELDS = tuple(  # of a lane -> of the file
    (re.compile(pattern), field)
    for pattern, field in (
        (r"(?<=: )/knobs/(?=\w+)", "/params/"),
        (r"(?<=: )/(?=: unknown field)", "/sweep"),
        (r"(?<=: )/budget/", "/sweep/"),
        (r"(?<=: )/decision/accept_band", "/sweep/accept"),
        (r"(?<=: )/decision/margin_reserve", "/sweep/reserve"),
        (
            r"(?<=: )/(seeds|batch|constraints|objectives|sampler|decision|racing|stop|stages|enqueue|limits)\b",
            r"/sweep/\1",
        ),
        (r"(?<=: )/derived/params#/", "/derived/"),
    )
)
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, eq=False)
class Project:
    """One project's file, read and valid."""

    document: Mapping[str, Any]
    file: Path  # whose folder is the project's; a notebook has none, and gives the folder's `lanelock.toml`

    @property
    def where(self) -> str:
        return str(self.file)

    @cached_property
    def engine(self) -> Mapping[str, Any]:
        """The table [engine]."""
        table: Mapping[str, Any] = self.document["engine"]
        return table

    @cached_property
    def id(self) -> str:
        """The name of the engine and of the lane."""
        return str(self.engine.get("id") or _id_of(self.file.parent.name))

    @property
    def folder(self) -> Path:
        """The folder of the code."""
        return (self.file.parent / str(self.engine.get("folder", "."))).resolve()

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of the parameters."""
        if "schema" in self.engine:
            schema: Mapping[str, Any] = read_json(self.file.parent / self.engine["schema"])
            validate(schema, shipped_schema("policy"), self.engine["schema"])
            return schema
        return {
            "type": "object",
            "title": f"Parameters of {self.id}",
            "additionalProperties": False,
            "required": list(self._params),
            "x-first-state": self.id,
            "properties": {name: self._schema_of(name, row) for name, row in self._params.items()},
        }

    @cached_property
    def start(self) -> dict[str, Any]:
        """The policies of the pack `start`, by name."""
        return {PARAMS: {name: row["value"] for name, row in self._params.items()}}

    @cached_property
    def gates(self) -> Mapping[str, Any]:
        """The gate file."""
        if (file := self._grading.get("file")) is not None:
            read: Mapping[str, Any] = read_document(self.file.parent / file)
            return read
        return {
            "id": self.id,
            "title": self._grading.get("title", f"Gates of {self.id}"),
            "bands": list(self.bands),
            "metrics": {name: self._metric(name) for name in self._measured},
            "gates": self._gate_rows,
            **{name: value for name, value in self._grading.items() if name not in ("title", "bands")},
        }

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """The bands, lowest first: as many as the gate with the most thresholds has."""
        if "bands" in self._grading:
            return tuple(self._grading["bands"])
        rows = [self._row(table, name, line, _BANDS) for table, name, line in self._lines()]
        most = max(
            (len(row[field]) for row in rows for field in ("thresholds", "corridors") if field in row), default=1
        )
        return _BANDS[:most]

    @cached_property
    def lane(self) -> Mapping[str, Any]:
        """The lane."""
        sweep = self._sweep
        budget = {name: sweep[name] for name in ("trials", "seconds", "max_failures") if name in sweep}
        return {
            "id": self.id,
            "title": sweep.get("title", self.id),
            "why": sweep.get("why", f"To {self._aim}."),
            "engine": self.id,
            "authority": START,
            "fixed": {},
            "knobs": self._knobs,
            **({"derived": self._derived} if self._derived else {}),
            **({"constraints": sweep["constraints"]} if "constraints" in sweep else {}),
            "seeds": list(sweep["seeds"]),
            "gates": {"grade": [row["id"] for row in self.gates["gates"]], "rails": []},
            "objectives": self._objectives,
            "budget": budget,
            "batch": sweep["batch"],
            "decision": {"accept_band": sweep.get("accept", self.gates["bands"][0]), **self._reserve},
            **{name: value for name, value in sweep.items() if name not in _OWN},
        }

    @cached_property
    def definitions(self) -> Mapping[str, Any]:
        """What defines each metric: an SQL expression, a table, or nothing for a number of the engine's own."""
        return {name: _definition(row) for name, row in self.document.get("metrics", {}).items()}

    @cached_property
    def budgets(self) -> Mapping[str, Any] | None:
        """The document of budgets: the engine's one state, which is named after it; None where it states none."""
        if (row := self.document.get("budgets")) is None:
            return None
        return {"engine": self.id, "why": f"{FILE}: [budgets]", "states": {self.id: row}}

    @contextmanager
    def in_its_fields(self) -> Iterator[None]:
        """Words an error about the lane with the fields of this file, from which the lane was made."""
        try:
            yield
        except LanelockError as error:
            text = str(error)
            for pattern, field in _FIELDS:
                text = pattern.sub(field, text)
            raise error.worded(text) from None

    @property
    def _grading(self) -> Mapping[str, Any]:
        grading: Mapping[str, Any] = self.document.get("grading", {})
        return grading

    @cached_property
    def _sweep(self) -> Mapping[str, Any]:
        return {**DEFAULTS, **self.document.get("sweep", {})}

    @cached_property
    def _params(self) -> dict[str, dict[str, Any]]:
        """The parameters, each a table with its value."""
        rows = self.document.get("params", {})
        return {name: row if _is_table(row) else {"value": row} for name, row in rows.items()}

    def _schema_of(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the schema of a parameter. Its range is the lane's, which may change while old packs stay valid."""
        kind = self._type_of(name, row)
        bounds = {bound: row[bound] for bound in ("minimum", "maximum") if bound in row}
        words = " ".join(filter(None, (row.get("what"), f"[{row['unit']}]" if "unit" in row else "")))
        return {"type": kind, **bounds, "default": row["value"], **({"description": words} if words else {})}

    def _type_of(self, name: str, row: Mapping[str, Any]) -> str:
        """Returns the JSON type of a parameter: that of its value, its range and its choices together."""
        given = [row["value"], *(row[end] for end in ("low", "high", "step") if end in row), *row.get("choices", ())]
        kinds = {_TYPES[type(value)] for value in given}
        if kinds == {"integer", "number"}:
            return "number"
        if len(kinds) > 1:
            odd = {end: _TYPES[type(row[end])] for end in ("value", "low", "high", "step") if end in row}
            kinds = {f"{end} is of type {kind}" for end, kind in odd.items()} or kinds
            raise PolicyError(
                f"{self.where}: /params/{name}: its values are of several types: {', '.join(sorted(kinds))}"
            )
        return kinds.pop()

    @cached_property
    def _knobs(self) -> dict[str, Any]:
        moving = {name: row for name, row in self._params.items() if row.keys() & _RANGE}
        own = {
            name: {"at": _address(name), **{key: value for key, value in row.items() if key not in _SAYS}}
            for name, row in moving.items()
        }
        further = {name: {**row, "at": self._at(name, row)} for name, row in self.document.get("knobs", {}).items()}
        if both := own.keys() & further.keys():
            raise PolicyError(f"{self.where}: /knobs/{min(both)}: a parameter of this name moves already")
        if not own | further:
            raise PolicyError(
                f"{self.where}: /params: none of them may move; give one a range: "
                f"{next(iter(self._params), 'NAME')} = {{value = 40, low = 10, high = 120}}"
            )
        return own | further

    def _at(self, name: str, row: Mapping[str, Any]) -> Any:
        at = row.get("at")
        if at is None:
            raise PolicyError(f"{self.where}: /knobs/{name}: missing field at: the parameter that it moves, or a list")
        return [_address(one) for one in at] if isinstance(at, list) else _address(at)

    @cached_property
    def _derived(self) -> dict[str, Any]:
        return {_address(name): text for name, text in self.document.get("derived", {}).items()}

    def _lines(self) -> Iterator[tuple[str, str, Any]]:
        """Yields table, id and line of each gate."""
        return ((table, name, line) for table in SEVERITIES for name, line in self.document.get(table, {}).items())

    def _row(self, table: str, name: str, line: Any, bands: tuple[str, ...]) -> dict[str, Any]:
        """Returns the gate file's row of a gate, which is a line or such a row already."""
        if not isinstance(line, str):
            return {"id": name, "severity": SEVERITIES[table], "why": f"{name}.", **line}
        with referred_to_by(f"{self.where}: /{table}"):
            return gate_row(name, line, SEVERITIES[table], bands)

    @cached_property
    def _gate_rows(self) -> list[dict[str, Any]]:
        if not self.document.get("gates"):
            raise PolicyError(
                f'{self.where}: /gates: missing; give one at least, such as fill = "fill_rate >= 0.95, 0.98"'
            )
        return [self._row(table, name, line, self.bands) for table, name, line in self._lines()]

    @cached_property
    def _measured(self) -> tuple[str, ...]:
        """The names of all metrics: those with a table or definition, those of gates and of what is improved."""
        graded = [row["metric"] for row in self._gate_rows]
        supports = [row["support"]["metric"] for row in self._gate_rows if "support" in row]
        aims = [(key, self._sweep[key]) for key in ("minimize", "maximize") if key in self._sweep]
        named = [name for key, text in aims for name in sorted(parse(text, f"{self.where}: /sweep/{key}").names)]
        return tuple(dict.fromkeys([*self.document.get("metrics", {}), *graded, *supports, *named]))

    def _metric(self, name: str) -> dict[str, Any]:
        """Returns a metric's row of the gate file. Its worst value is that at which its gates fail first."""
        row = self.document.get("metrics", {}).get(name, {})
        told = {key: row[key] for key in _MEANING if key in row} if isinstance(row, Mapping) else {}
        definition = _definition(row)
        signs = [gate["comparison"] for gate in self._gate_rows if gate["metric"] == name]
        worst = "lowest" if ">=" in signs or (not signs and self._sweep.get("maximize") == name) else "highest"
        return {
            "unit": "1", "state": self.id, "worst": worst, "what": f"{name}, as the engine gives it.",
            **({"what": _told(definition), "definition": definition} if definition else {}), **told,
        }  # fmt: skip

    @property
    def _aim(self) -> str:
        """Returns in words what is improved."""
        for key in ("minimize", "maximize"):
            if key in self._sweep:
                return f"{key} {self._sweep[key]}"
        return "hold every gate with the greatest margin"

    @cached_property
    def _objectives(self) -> list[dict[str, Any]]:
        if "minimize" in self._sweep and "maximize" in self._sweep:
            raise PolicyError(
                f"{self.where}: /sweep: give minimize or maximize, not both; one expression may weigh several"
            )
        rows = [{"name": "margin", "direction": "maximize", "worst_margin": self.gates["bands"][-1]}]
        for key in ("minimize", "maximize"):
            if (text := self._sweep.get(key)) is not None:
                plain = text in self.gates["metrics"]
                name = _id_of(text) if plain else "objective"
                rows.append({"name": name, "direction": key, "metric" if plain else "expression": text})
        return rows

    @property
    def _reserve(self) -> dict[str, Any]:
        """Returns the decision's fields beside the band: the reserve, and whatever [sweep.decision] states."""
        own = self._sweep.get("decision", {})
        reserve = {} if "reserve" in own or "margin_reserve" in own else {"margin_reserve": self._sweep["reserve"]}
        return {**reserve, "confirm_seeds": self._sweep["confirm_seeds"], **own}


def find_project(start: Path | None = None) -> Path | None:
    """Returns the `lanelock.toml` in a folder (the current one) or the nearest above; None if there is none."""
    start = (start or Path.cwd()).resolve()
    return next((folder / FILE for folder in (start, *start.parents) if (folder / FILE).is_file()), None)


def read_project(file: Path) -> Project:
    """Returns the project in a file. Raises PolicyError naming file, field and what is allowed."""
    return project_of(read_document(file), file)


def project_of(document: Mapping[str, Any], file: Path) -> Project:
    """Returns the project that a document states as if it stood in `file`."""
    _check_words(document, str(file))
    validate(document, shipped_schema("project"), str(file))
    project = Project(document, file)
    if "params" not in document and "schema" not in project.engine:
        raise PolicyError(f"{file}: /params: missing: the parameters with which the engine is run")
    return project


def _check_words(document: Mapping[str, Any], where: str) -> None:
    """Raises PolicyError for an id that is no name, and for a field of [sweep] that neither the file nor a lane has."""
    engine, sweep = document.get("engine"), document.get("sweep", {})
    name = engine.get("id") if isinstance(engine, Mapping) else None
    if isinstance(name, str) and not re.fullmatch("[a-z][a-z0-9_]{0,39}", name):
        raise PolicyError(f"{where}: /engine/id: {name!r} is no name: small letters, digits and _, a letter first")
    own = shipped_schema("project")["properties"]["sweep"]["properties"]
    known = {*own, *shipped_schema("lane")["properties"]} - set(_COMPILED)
    if isinstance(sweep, Mapping) and (unknown := sorted(set(sweep) - known)):
        raise PolicyError(f"{where}: /sweep: unknown field {unknown[0]} (known: {', '.join(sorted(known))})")


def _is_table(row: Any) -> bool:
    return isinstance(row, Mapping) and "value" in row


def _definition(row: Any) -> Any:
    return row if isinstance(row, str) else {key: value for key, value in row.items() if key not in _MEANING}


def _told(definition: Any) -> str:
    text = (
        definition if isinstance(definition, str) else ", ".join(f"{key} {value}" for key, value in definition.items())
    )
    return text if len(text) <= 400 else f"{text[:397]}..."


def _address(parameter: str) -> str:
    """Returns the address of a parameter, of a field within it (`weights/0`), or of what is an address already."""
    return parameter if "#" in parameter else f"{PARAMS}#/{parameter}"


def _id_of(text: str) -> str:
    """Returns a lower-case name for a folder or a metric."""
    made = name_from(text).lower().replace("-", "_").replace(".", "_").replace("+", "_")[:40]
    return made if made[:1].isalpha() else f"p{made}"[:40]
