"""Colours by meaning, each in light and dark.

No two tokens share a light value: a figure is drawn once, in the light colours, and each colour is then replaced by its
token. Nothing is distinguished by colour alone (also by line, mark or label), and the pairs suit the colour-blind: blue
against orange, and lightness along every ramp.
"""

from __future__ import annotations

from collections.abc import Mapping

SHARES = tuple(f"share-{step}" for step in range(6))  # a ramp, least to most
SWINGS = tuple(f"swing-{step}" for step in range(7))  # below, even, above
_PAIRS = {  # token: (light, dark)
    "page": ("#f5f6f8", "#0d1117"),
    "surface": ("#ffffff", "#161b22"),
    "sunken": ("#edeff2", "#1f262f"),
    "line": ("#d3d8de", "#353d48"),
    "ink": ("#1a1f26", "#e8edf3"),
    "muted": ("#56606b", "#a3aebb"),
    "candidate": ("#0a5ea8", "#6ab7ff"),
    "authority": ("#a34a00", "#f2a65a"),
    "good": ("#0f6b4f", "#4fc9a0"),
    "bad": ("#b3261e", "#ff9a90"),
    "unsure": ("#755600", "#e2b84a"),
    "mark": ("#713a97", "#cda6ff"),
    "land": ("#e3e6ea", "#262d36"),
    **dict(zip(SHARES, (
        ("#a9cfe2", "#2f5069"), ("#6dafd0", "#337799"), ("#338abb", "#44a0b8"),
        ("#17659f", "#6fc8b2"), ("#37357f", "#b8e28c"), ("#640f55", "#fdf2a6"),
    ), strict=True)),
    **dict(zip(SWINGS, (
        ("#f0ad73", "#7d4513"), ("#f6cda6", "#5d3717"), ("#fae5d1", "#402c1c"), ("#f0f1f3", "#272e37"),
        ("#d6e6f4", "#1e3750"), ("#abceec", "#1f4c78"), ("#7cb3e1", "#205f9c"),
    ), strict=True)),
}  # fmt: skip
LIGHT: Mapping[str, str] = {token: light for token, (light, _) in _PAIRS.items()}
DARK: Mapping[str, str] = {token: dark for token, (_, dark) in _PAIRS.items()}


def stylesheet() -> str:
    """Returns every token as a custom property, in the theme that the reader's system prefers."""
    light, dark = ("".join(f"--{token}:{value};" for token, value in of.items()) for of in (LIGHT, DARK))
    return f":root{{color-scheme:light dark;{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
