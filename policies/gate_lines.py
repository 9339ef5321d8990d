"""A gate as one line of text, and the gate file's row that it stands for.

    fill_rate >= 0.95, 0.98                     thresholds, lowest band first; a single number is every band's
    wait in [0.1, 0.3], [0.15, 0.25]            corridors; also 0.1 <= wait <= 0.3
    fill_rate >= baseline - 0.01                a threshold that follows the baseline, which is also called authority
    mean_stock <= 1.05 * baseline               (or a reference of the lane, by name)
    |wait - baseline| <= 0.01                   a corridor around the baseline

A number may be left out by `-`: that band is not tested. After the condition, in any order:

    if orders >= 100                            the least support: with less, the gate is unknown
    at 95 %                                     the pessimistic end of a bound with this confidence is compared; also
                                                with confidence 0.95; by bootstrap, bca, wilson of COUNT, or seeds
    in all strata; in 4 strata; in 80 % of strata; also in 0.8 of strata
    scale 0.1; tolerance 1e-9; never below 0.9; never above 1
    because TEXT                                the reason, up to the end of the line
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from lanelock.policies.errors import PolicyError

OWN = ("baseline", "authority")  # the words for the lane's authority
METHODS = ("bootstrap", "bca", "wilson", "seeds")
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w/.])"
_NAME = r"[A-Za-z0-9_]+(?:/[A-Za-z0-9_]+)*"
_TOKEN = re.compile(rf"\s*(?:(?P<number>{_NUMBER})|(?P<name>{_NAME})|(?P<sign>>=|<=|==|[-+*|,%\[\]]))")
_REASON = re.compile(r"(?:^|\s)because\s")
_OPTIONS = "if, at, with, by, in, scale, tolerance, never, because"
_FLIPPED = {"<=": ">=", ">=": "<="}


def gate_row(
    gate_id: str, text: str, severity: str, bands: Sequence[str], why: str | None = None
) -> dict[str, Any]:  # fmt: skip
    """Returns the gate file's row of a one-line gate; `why` stands where the line gives no reason.

    Raises PolicyError naming the gate, the column and what is allowed there.
    """
    condition, *reason = _REASON.split(text, maxsplit=1)
    row = _Line(gate_id, text, condition, tuple(bands)).row()
    given = reason[0].strip() if reason else why
    return {"id": gate_id, "severity": severity, **row, "why": given or text.strip()}


def gate_line(row: Mapping[str, Any], bands: Sequence[str]) -> str:
    """Returns the line of a row: `gate_row(row["id"], gate_line(row, bands), row["severity"], bands) == row`."""
    line = " ".join((_condition(row, bands), *_options(row)))
    return line if row["why"] == line else f"{line} because {row['why']}"


class _Line:
    """A line while it is read, token by token."""

    def __init__(self, gate_id: str, text: str, condition: str, bands: tuple[str, ...]) -> None:
        self._where, self._text, self._bands = f"gate {gate_id}", text, bands
        self._tokens = list[tuple[str, str, int]]()  # kind, text, column from 1
        self._at, place = 0, 0
        while condition[place:].strip():
            found = _TOKEN.match(condition, place)
            if found is None:
                column = place + len(condition[place:]) - len(condition[place:].lstrip()) + 1
                self._refuse(column, f"{condition[column - 1]!r} is no part of a gate; {_shape()}")
            kind = str(found.lastgroup)
            self._tokens.append((kind, found[kind], found.start(kind) + 1))
            place = found.end()

    def row(self) -> dict[str, Any]:
        row = self._compared()
        while self._at < len(self._tokens):
            field, value = self._option(row)
            if field in row:
                self._refuse(self._column(-1), f"{field} is given twice")
            row[field] = value
        return row

    def _compared(self) -> dict[str, Any]:
        if self._took("|"):
            return self._around()
        if self._kind() == "number" or self._peek() in ("-", "+"):
            return self._chain()
        metric = self._name("a metric")
        if self._took("in"):
            return {"metric": metric, "comparison": "within", **self._per_band("corridor", self._corridor)}
        comparison = self._one_of(">=", "<=", "==", "in")
        if self._follows():
            return {"metric": metric, "comparison": comparison, "relative_to_authority": self._relative()}
        return {"metric": metric, "comparison": comparison, **self._per_band("threshold", self._signed)}

    def _around(self) -> dict[str, Any]:
        metric = self._name("a metric")
        self._one_of("-")
        followed = self._reference()
        self._one_of("|")
        self._one_of("<=")
        relative = {**followed, "within": self._signed()}
        return {"metric": metric, "comparison": "within", "relative_to_authority": relative}

    def _chain(self) -> dict[str, Any]:
        one = self._signed()
        sign = self._one_of("<=", ">=")
        metric = self._name("a metric")
        if self._at == len(self._tokens):
            return {"metric": metric, "comparison": _FLIPPED[sign], "threshold": one}
        self._one_of(sign)
        other = self._signed()
        return {"metric": metric, "comparison": "within", "corridor": [one, other] if sign == "<=" else [other, one]}

    def _follows(self) -> bool:
        """Whether what comes is relative: a name, or a number times a name."""
        at = self._at + (self._peek() in ("-", "+"))
        kinds = [(kind, text) for kind, text, _ in self._tokens[at : at + 2]]
        return [kind for kind, _ in kinds[:1]] == ["name"] or [text for _, text in kinds[1:]] == ["*"]

    def _relative(self) -> dict[str, Any]:
        """Returns the terms of `[number *] baseline [* number] [+ number | - number]`."""
        relative: dict[str, Any] = {}
        if self._kind() != "name":
            relative["times"] = self._signed()
            self._one_of("*")
        relative |= self._reference()
        if "times" not in relative and self._took("*"):
            relative["times"] = self._signed()
        if self._peek() in ("+", "-"):
            relative["plus"] = self._signed()
        if not {"times", "plus"} & relative.keys():
            relative["plus"] = 0.0
        if self._peek() == ",":
            self._refuse(self._column(), "a threshold that follows the baseline is the same for every band")
        return relative

    def _reference(self) -> dict[str, str]:
        name = self._name("baseline, authority or a reference of the lane")
        return {} if name in OWN else {"of": name}

    def _per_band(self, field: str, read: Callable[[], Any]) -> dict[str, Any]:
        """Returns `threshold` for a single value, else `thresholds` by band; corridors likewise."""
        first = self._column()
        values = [self._value(read)]
        while self._took(","):
            if len(values) == len(self._bands):
                self._refuse(self._column(), f"more {field}s than bands: {', '.join(self._bands)}")
            values.append(self._value(read))
        if len(values) == 1 and values[0] is not None:
            return {field: values[0]}
        by_band = {band: value for band, value in zip(self._bands, values, strict=False) if value is not None}
        if not by_band:
            self._refuse(first, f"no band has a {field}; {_shape()}")
        return {f"{field}s": by_band}

    def _value(self, read: Callable[[], Any]) -> Any:
        """Returns a value, or None for a band that `-` leaves out."""
        after = self._tokens[self._at + 1 : self._at + 2]
        if self._peek() == "-" and not (after and after[0][0] == "number"):
            self._at += 1
            return None
        return read()

    def _corridor(self) -> list[float]:
        self._one_of("[")
        low = self._signed()
        self._one_of(",")
        high = self._signed()
        self._one_of("]")
        return [low, high]

    def _option(self, row: dict[str, Any]) -> tuple[str, Any]:
        """Returns the field and the value of one optional part; clamps and ways of a bound extend what `row` has."""
        word = self._one_of("if", "at", "with", "in", "scale", "tolerance", "never", "because")
        if word in ("scale", "tolerance"):
            return word, self._signed()
        if word == "if":
            metric = self._name("a metric")
            self._one_of(">=")
            return "support", {"metric": metric, "at_least": self._signed()}
        if word == "in":
            return "strata", self._strata()
        if word == "never":
            return "relative_to_authority", self._clamped(row)
        return "confidence", self._confidence(word)

    def _strata(self) -> dict[str, Any] | str:
        if self._took("all"):
            self._one_of("strata")
            return "all"
        count = self._signed()
        percent = self._took("%")
        if percent or self._peek() == "of":
            self._one_of("of")
            self._one_of("strata")
            return {"share": _hundredth(count) if percent else count}
        if count != int(count):
            self._refuse(self._column(-1), f"{count:g} is not a whole number of strata")
        self._one_of("strata")
        return {"at_least": int(count)}

    def _clamped(self, row: dict[str, Any]) -> dict[str, Any]:
        side = "at_least" if self._one_of("below", "above") == "below" else "at_most"
        relative = row.pop("relative_to_authority", None)
        if relative is None:
            self._refuse(self._column(-2), "`never` limits a threshold that follows the baseline; this one does not")
        if side in relative:
            self._refuse(self._column(-1), f"{side} is given twice")
        return {**relative, side: self._signed()}

    def _confidence(self, word: str) -> dict[str, Any]:
        if word == "with":
            self._one_of("confidence")
        level = self._signed()
        if word == "at":
            self._one_of("%")
            level = _hundredth(level)
        bound: dict[str, Any] = {"level": level, "method": "bootstrap"}
        if self._took("by"):
            bound["method"] = self._one_of(*METHODS)
        if bound["method"] == "wilson":
            self._one_of("of")
            bound["of"] = self._name("the metric that counts the rows of the share")
        elif bound["method"] in ("bootstrap", "bca") and self._took("of"):
            bound["resamples"] = int(self._signed())
            self._one_of("resamples")
        return bound

    def _signed(self) -> float:
        sign = -1.0 if self._took("-") else 1.0
        if sign > 0:
            self._took("+")
        if self._kind() != "number":
            self._expected("a number")
        number = sign * float(self._peek())
        if abs(number) > 1e12:
            self._refuse(self._column(), f"{self._peek()} is more than 1e12")
        self._at += 1
        return number

    def _name(self, what: str) -> str:
        if self._kind() != "name":
            self._expected(what)
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _one_of(self, *allowed: str) -> str:
        if self._peek() not in allowed:
            self._expected(" or ".join(allowed))
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _took(self, text: str) -> bool:
        """Whether the next token is this one, which is then passed."""
        taken = self._peek() == text
        self._at += taken
        return taken

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _column(self, offset: int = 0) -> int:
        at = self._at + offset
        return self._tokens[at][2] if at < len(self._tokens) else len(self._text) + 1

    def _expected(self, what: str) -> NoReturn:
        found = repr(self._peek()) if self._peek() else "its end"
        self._refuse(self._column(), f"{found} where {what} is expected; {_shape()}")

    def _refuse(self, column: int, why: str) -> NoReturn:
        raise PolicyError(f"{self._where}: column {column} of {self._text!r}: {why}")


def _shape() -> str:
    return (
        "a gate is METRIC >= NUMBER, NUMBER (also <=, ==), METRIC in [LOW, HIGH], METRIC >= baseline - NUMBER or "
        f"|METRIC - baseline| <= NUMBER, then any of {_OPTIONS}"
    )


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _hundredth(percent: float) -> float:
    return round(percent / 100.0, 12)


def _percent(share: float) -> str | None:
    """Returns a share in percent, or None where it is no round number of percent."""
    percent = round(share * 100.0, 10)
    return f"{_number(percent)} %" if _hundredth(percent) == share else None


def _condition(row: Mapping[str, Any], bands: Sequence[str]) -> str:
    metric, comparison = row["metric"], row["comparison"]
    if "relative_to_authority" in row:
        return _followed(metric, comparison, row["relative_to_authority"])
    word = "in" if comparison == "within" else comparison
    return f"{metric} {word} {_values(row, 'corridor' if comparison == 'within' else 'threshold', bands)}"


def _values(row: Mapping[str, Any], field: str, bands: Sequence[str]) -> str:
    def text(value: Any) -> str:
        if value is None:
            return "-"
        return f"[{', '.join(map(_number, value))}]" if field == "corridor" else _number(value)

    if field in row:
        return text(row[field])
    return ", ".join(text(row[f"{field}s"].get(band)) for band in bands) + (", -" if len(bands) == 1 else "")


def _followed(metric: str, comparison: str, relative: Mapping[str, Any]) -> str:
    followed = relative.get("of", OWN[0])
    if "within" in relative:
        return f"|{metric} - {followed}| <= {_number(relative['within'])}"
    times = f"{_number(relative['times'])} * " if "times" in relative else ""
    plus = relative.get("plus", 0.0 if not times else None)
    tail = "" if plus is None else f" - {_number(-plus)}" if str(plus).startswith("-") else f" + {_number(plus)}"
    return f"{metric} {comparison} {times}{followed}{tail}"


def _options(row: Mapping[str, Any]) -> list[str]:
    relative, support = row.get("relative_to_authority", {}), row.get("support")
    return [
        *(f"never {word} {_number(relative[end])}" for end, word in (("at_least", "below"), ("at_most", "above"))
          if end in relative),
        *([f"if {support['metric']} >= {_number(support['at_least'])}"] if support else ()),
        *([_bound(row["confidence"])] if "confidence" in row else ()),
        *([_in_strata(row["strata"])] if "strata" in row else ()),
        *(f"{field} {_number(row[field])}" for field in ("scale", "tolerance") if field in row),
    ]  # fmt: skip


def _bound(confidence: Mapping[str, Any]) -> str:
    percent = _percent(confidence["level"])
    level = f"with confidence {_number(confidence['level'])}" if percent is None else f"at {percent}"
    of = f" of {confidence['of']}" if "of" in confidence else ""
    resamples = f" of {confidence['resamples']} resamples" if "resamples" in confidence else ""
    return f"{level} by {confidence['method']}{of}{resamples}"


def _in_strata(strata: Mapping[str, Any] | str) -> str:
    if isinstance(strata, str):
        return "in all strata"
    if "at_least" in strata:
        return f"in {strata['at_least']} strata"
    return f"in {_percent(strata['share']) or _number(strata['share'])} of strata"
