"""A map of the sites by their share of their merchant, and a calendar of one merchant's days."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import tzfpy
from numpy.typing import NDArray

from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Surface
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT, SHARES, SWINGS

_CLASSES = np.array([0.02, 0.05, 0.1, 0.2, 0.4])  # edges of classes of a site's share of its merchant
_CELL = 1.0  # degrees: sites in one cell are one dot
_SOUTH, _NORTH = -57.0, 77.0
_TURNS = np.array([0.8, 0.9, 0.97, 1.03, 1.1, 1.25])  # edges of classes of a day's mean gamma
_NUMBERED = 16  # up to this many weeks a day has room for its number


# --- the map ------------------------------------------------------------------------------------------------


def map_figure(before: tuple[NDArray[np.float64], World], after: tuple[NDArray[np.float64], World]) -> Figure:
    """Returns the map of sites by share: the weights and the world of the authority, and those of the candidate."""
    heavy = [int(np.sum(p >= _CLASSES[-1])) for p, _ in (before, after)]
    drawn = [_dots(*side) for side in (before, after)]
    caption = (
        f"{heavy[1]:,} of {len(after[0]):,} sites hold {_CLASSES[-1]:.0%} or more of their merchant's weight, under "
        f"the authority {heavy[0]:,}. Every site is counted; sites within a degree are one dot, coloured by the "
        f"greatest share among them ({sum(map(len, drawn[1])):,} dots)."
    )
    return Figure("map_sites", "Sites by their share of their merchant", caption, 470, partial(_draw_map, drawn))


def _dots(p: NDArray[np.float64], world: World) -> list[NDArray[np.float64]]:
    """Returns per class of share: [dots, 2] longitude and latitude of the cells whose greatest share is in it."""
    cells = np.stack([np.floor(world.lon_deg / _CELL), np.floor(world.lat_deg / _CELL)], axis=1)
    sites = pd.DataFrame({"x": cells[:, 0], "y": cells[:, 1], "of": np.digitize(p, _CLASSES)})
    most = sites.groupby(["x", "y"], sort=True)["of"].max().reset_index()
    places = (most[["x", "y"]].to_numpy() + 0.5) * _CELL
    return [places[most["of"].to_numpy() == level] for level in range(len(SHARES))]


def _draw_map(drawn: Any, canvas: Any) -> None:
    for axis, side, dots in zip(canvas.subplots(2, 1), ("authority", "candidate"), drawn, strict=True):
        axis.set_title(side)
        _draw_land(axis)
        for token, places in zip(SHARES, dots, strict=True):
            _draw_dots(axis, places, LIGHT[token])
    ends = ["0", *(f"{edge:.0%}" for edge in _CLASSES), "100%"]
    names = [f"{low} – {high}" for low, high in itertools.pairwise(ends)]
    handles = [_dot(LIGHT[token]) for token in SHARES]
    canvas.legend(
        handles, names, loc="outside lower left", ncols=3, title="share of the merchant's weight", alignment="left"
    )


def _draw_land(axis: Any) -> None:
    lon, lat, land = _land()
    axis.contourf(lon, lat, land, levels=[0.5, 1.5], colors=[LIGHT["land"]])
    axis.set(xlim=(-180, 180), ylim=(_SOUTH, _NORTH), aspect="equal")
    axis.set_xticks(range(-120, 121, 60), ["120° W", "60° W", "0°", "60° E", "120° E"])
    axis.set_yticks(range(-40, 61, 20), ["40° S", "20° S", "0°", "20° N", "40° N", "60° N"])
    axis.tick_params(labelsize=10)
    axis.spines["bottom"].set_visible(False)


@cache
def _land() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns longitudes, latitudes, and whether a zone on land lies there: the coasts to within a degree."""
    lon, lat = np.arange(-180.0, 180.5), np.arange(_SOUTH, _NORTH + 1)
    zone = [[tzfpy.get_tz(x, y) for x in lon.tolist()] for y in lat.tolist()]
    return lon, lat, np.array([[not name.startswith("Etc/") and name != "" for name in row] for row in zone], float)


def _draw_dots(axis: Any, places: NDArray[np.float64], ink: str) -> None:
    """Draws all dots as one path of tiny strokes with round ends: a tenth of the bytes of as many circles."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if len(places):
        corners = np.repeat(places, 2, axis=0)
        corners[1::2, 0] += 0.05
        path = Path(corners, np.tile([Path.MOVETO, Path.LINETO], len(places)).astype(np.uint8))
        path.should_simplify = False
        dots = PathPatch(path, facecolor="none", edgecolor=ink, linewidth=2.6, capstyle="round", zorder=3)
        axis.add_artist(dots)  # not add_patch, which would measure every dot for axis limits that are already set


def _dot(ink: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", marker="o", markersize=7, color=ink)


# --- the calendar -------------------------------------------------------------------------------------------


def calendar_figure(before: tuple[Surface, World], after: tuple[Surface, World]) -> Iterator[Figure]:
    """Yields the calendar of one merchant's days by mean gamma, under the authority and under the candidate.

    Each side is day effects and their world. Without a merchant that both worlds have there is no calendar.
    """
    (_, other), (_, world) = before, after
    shared = np.isin(world.merchant_id, other.merchant_id)
    if not shared.any():
        return
    which, groups, sites = typical_merchant(world, shared)
    days = [_day_means(surface, which) for surface, _ in (before, after)]
    spread = [float(np.std(mean, ddof=1)) if len(mean) > 1 else 0.0 for _, mean in days]
    low, high = int(np.argmin(days[1][1])), int(np.argmax(days[1][1]))
    names, means = days[1]
    caption = (
        f"Merchant {which}, of those with the median number of groups ({groups}) the one with most sites ({sites:,}). "
        f"Mean gamma over its zones, in per cent: least {means[low]:.0%} on {names[low]}, most {means[high]:.0%} on "
        f"{names[high]}; standard deviation over days {spread[1]:.4f}, under the authority {spread[0]:.4f}."
    )
    yield Figure("calendar", "S3 · a merchant's days", caption, 470, partial(_draw_calendars, days))


def typical_merchant(world: World, among: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Returns (id, groups, sites) of the merchant with most sites among those with the (lower) median group count.

    `among` says which merchants of the world may be taken; one at least.
    """
    groups, sites = np.diff(world.group_offsets), np.diff(world.site_offsets)
    middle = int(np.quantile(groups[among], 0.5, method="lower"))
    which = int(np.argmax(np.where(among & (groups == middle), sites, -1)))
    return int(world.merchant_id[which]), middle, int(sites[which])


def _day_means(surface: Surface, merchant: int) -> tuple[list[str], NDArray[np.float64]]:
    """Returns the days in order, and the mean of gamma over the merchant's zones on each."""
    rows = np.asarray(surface["merchant_id"]) == np.uint64(merchant)
    day: Any = surface["utc_day"]
    codes = day.codes[rows]
    total = np.bincount(codes, np.asarray(surface["gamma"])[rows], minlength=len(day.values))
    count = np.bincount(codes, minlength=len(day.values))
    present = np.flatnonzero(count)
    return [day.values[code] for code in present], total[present] / count[present]


def _draw_calendars(days: Any, canvas: Any) -> None:
    for axis, side, (names, means) in zip(canvas.subplots(2, 1), ("authority", "candidate"), days, strict=True):
        axis.set_title(side)
        _draw_calendar(axis, pd.DatetimeIndex(names), means)
    ends = [f"{edge:.0%}".removesuffix("%") for edge in _TURNS]
    names = [f"< {ends[0]}", *(f"{low} – {high}" for low, high in itertools.pairwise(ends)), f"≥ {ends[-1]}"]
    handles = [_cell(LIGHT[token]) for token in SWINGS]
    canvas.legend(handles, names, loc="outside lower left", ncols=4, title="mean gamma, per cent", alignment="left")


def _draw_calendar(axis: Any, days: pd.DatetimeIndex, means: NDArray[np.float64]) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    monday = days[0] - pd.Timedelta(days=days[0].day_of_week)
    week, weekday = (days - monday).days.to_numpy() // 7, days.day_of_week.to_numpy()
    grid = np.full((7, week.max() + 1), np.nan)
    grid[weekday, week] = np.digitize(means, _TURNS)
    norm = BoundaryNorm(np.arange(len(SWINGS) + 1) - 0.5, len(SWINGS))
    tints = ListedColormap([LIGHT[token] for token in SWINGS])
    axis.pcolormesh(np.ma.masked_invalid(grid), cmap=tints, norm=norm, edgecolors=LIGHT["surface"], linewidth=1.5)
    if grid.shape[1] <= _NUMBERED:
        for x, y, mean in zip(week, weekday, means, strict=True):
            number = axis.text(x + 0.5, y + 0.5, f"{100 * mean:.0f}", ha="center", va="center_baseline", fontsize=10)
            number.set_in_layout(False)  # it lies within its cell
    every = range(0, grid.shape[1], max(1, grid.shape[1] // 7))
    mondays = [monday + pd.Timedelta(weeks=at) for at in every]
    axis.set_xticks([at + 0.5 for at in every], [f"{at:%b} {at.day}" for at in mondays])
    axis.set_yticks(np.arange(7) + 0.5, ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.spines["bottom"].set_visible(False)


def _cell(ink: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=ink, edgecolor=LIGHT["line"], linewidth=0.8)
