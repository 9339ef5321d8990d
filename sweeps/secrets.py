"""Addresses without their secrets: how a tracking or study URI is shown or stored, and what a library says of one.

A URI may be written wrongly, and its password may hold any character. So nothing here relies on a URI being valid:
what may be part of a secret is left out, even where that shows less of the address than could be shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://")
_PATHS = re.compile(r"(sqlite|file)(\+\w+)?:///|[/.~]")  # beginnings of addresses in which an @ is part of a path
_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.*~-]*)(:\d*)?")  # with its port
_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]{0,40}://[^\s\"'<>`]*[^\s\"'<>`:,.;)]")  # a URI that a message quotes
_PART = re.compile(r"[^\w.$!*+~-]+")  # what separates the parts of a secret that a library may quote alone
_WHOLE = 4  # characters; a shorter secret is only recognised as a word of its own
_HARMLESS = {"sslmode", "connect_timeout", "application_name", "charset", "mode", "options", "timeout"}  # in a query
_GONE = "…"
_VARIABLES = ("MLFLOW_TRACKING_URI", "LANELOCK_STUDY_STORAGE")


def shown(uri: str) -> str:
    """Returns a URI without user, password and the values of its query.

    Only the scheme is shown where an unescaped `?`, `#` or `;` stands before an `@`, so that nobody can say which of
    them ends the password, and where what follows is no host with a port.
    """
    found = _SCHEME.match(uri)
    scheme, rest = (found[0], uri[found.end() :]) if found else ("", uri)
    place = re.split(r"[?#;]", rest, maxsplit=1)[0]
    if _PATHS.match(uri):
        return scheme + place + _GONE * (place != rest)
    if "@" in rest[len(place) :]:
        return scheme + _GONE
    host = re.split("[&=]", place.rpartition("@")[2])[0]
    if not all(map(_HOST.fullmatch, host.split("/")[0].split(","))):
        return scheme + _GONE
    return scheme + host + f"?{_GONE}" * (place != rest)


def without_secrets(text: str, *uris: str) -> str:
    """Returns a message of a library without the secrets of the URIs, which it may quote whole or in parts.

    The addresses in the environment are always among the URIs.
    """
    known = [uri for uri in (*uris, *map(os.environ.get, _VARIABLES)) if uri]
    for uri in known:
        text = text.replace(uri, shown(uri)).replace(unquote(uri), shown(uri))
    text = _IN_TEXT.sub(lambda quoted: shown(quoted[0]), text)
    for pattern in (pattern for uri in known for pattern in _patterns(uri)):
        text = re.sub(pattern, _GONE, text)
    return text


def _patterns(uri: str) -> Iterator[str]:
    """Yields what finds the secrets of a URI, and parts of them, in a text."""
    rest = _SCHEME.sub("", uri, count=1)
    userinfo, _, host = ("", "", "") if _PATHS.match(uri) else rest.rpartition("@")
    user, _, password = userinfo.partition(":")
    secrets = _forms(password or user)
    for pair in re.split("[?#;&]", rest[len(re.split("[?#;]", rest)[0]) :])[1:]:
        name, stated, value = pair.partition("=")
        if name not in _HARMLESS:
            secrets |= _forms(value if stated else name)
    for secret in sorted(secrets, key=len, reverse=True):
        edge = "" if len(secret) >= _WHOLE else r"\b"
        yield f"{edge}{re.escape(secret)}{edge}"
    # A password that holds an @, a : or a / ends up in the name of a host or in a port.
    if name := re.split(r"[^\w.-]", host)[0]:
        yield rf"[^\s\"'()<>]{{1,1000}}@(?={re.escape(name)})"
    if user:
        yield rf"(?<=\b{re.escape(user)}:)[^\s\"'()<>]+"


def _forms(secret: str) -> set[str]:
    """Returns a secret as a library may quote it: whole, with and without escapes, and part by part."""
    plain = {secret, unquote(secret)}
    forms = {*plain, *(quote(form, safe="") for form in plain), *(repr(form)[1:-1] for form in plain)}
    return {part for form in forms for part in (form, *_PART.split(form)) if part == form or len(part) >= _WHOLE} - {""}
