"""What is drawn is what was measured, in both themes, for those who do not see colours, in the same bytes each time."""

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from worlds import tiny_world

from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.states import s1_site_weights, s3_day_effects, s4_group_weights
from lanelock.scoring.figures.drawing import WIDTH, Figure, png, pngs, svg
from lanelock.scoring.figures.palette import DARK, LIGHT, SHARES, SWINGS, stylesheet
from lanelock.scoring.gates import load_gates
from lanelock.scoring.segment_2b.metrics import SEGMENT_2B as METRICS
from lanelock.scoring.segment_2b.places import typical_merchant

GATES = load_gates("segment_2b")
IDS = ["s1_lorenz", "s1_gap", "s3_by_segment", "s3_by_zone", "s4_max_p", "s4_entropy", "s4_groups", "s4_moved",
       "map_sites", "calendar"]  # fmt: skip


def contrast(*colours):
    """Returns the contrast of two hex colours, 1 … 21, as WCAG 2 defines it."""

    def luminance(colour):
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, brighter = sorted(map(luminance, colours))
    return (brighter + 0.05) / (darker + 0.05)


def tiny_run(pack, world, until=4, seed=1):
    """S1, S3 and S4 on a world made by hand."""
    s1 = s1_site_weights.site_weights(world, pack["alias_layout_policy_v1"], "then")
    rows = s3_day_effects.grid(world, pack["day_effect_policy_v1"])
    s3 = s3_day_effects.day_effects(world, rows, pack["day_effect_policy_v1"], seed, "then")
    raw = s4_group_weights.raw_mix(world, rows, s1, s3)
    s4 = s4_group_weights.group_weights(rows, raw, pack["group_mix_regularizer_v1"], "then")
    surfaces = {surface.name: surface for place, surface in ((1, s1), (3, s3), (4, s4)) if place <= until}
    return Run("0" * 32, "segment_2b", seed, pack, world.digest, "0" * 64, surfaces, (), world)


@pytest.fixture(scope="module")
def sides(packs):
    world = tiny_world()
    return tiny_run(packs("p3_wide"), world), tiny_run(packs("baseline"), world)


@pytest.fixture(scope="module")
def figures(sides):
    return {figure.id: figure for figure in METRICS.figures(*sides, GATES)}


@pytest.fixture(scope="module")
def drawn(figures):
    return {name: svg(figure) for name, figure in figures.items()}


def test_every_figure_of_the_issue_is_there(figures):
    assert list(figures) == IDS


@pytest.mark.parametrize(("until", "count"), [(0, 0), (1, 3), (3, 6), (4, 10)])
def test_a_run_that_ended_early_has_the_figures_of_what_it_holds(packs, until, count):
    world = tiny_world()
    candidate, authority = tiny_run(packs("p3_recorded"), world, until), tiny_run(packs("baseline"), world)
    assert len(METRICS.figures(candidate, authority, GATES)) == count


@pytest.mark.parametrize(
    ("figure", "metric"),
    [("s1_gap", "s1/gap"), ("s3_by_segment", "s3/merchant_std_median"), ("s4_max_p", "s4/max_p_median"),
     ("s4_entropy", "s4/entropy_p50"), ("s4_moved", "s4/intervention")],
)  # fmt: skip
def test_captions_state_the_metrics_themselves(figures, sides, figure, metric):
    candidate, authority = (METRICS.measure(run)[metric] for run in sides)
    assert f"{candidate:.6f}" in figures[figure].says and f"{authority:.6f}" in figures[figure].says


def test_the_caption_of_the_groups_states_the_share_that_the_gate_reads(figures, sides):
    assert f"{METRICS.measure(sides[0])['s4/multigroup_share']:.1%}" in figures["s4_groups"].says


def test_the_map_counts_every_site(figures, sides):
    heavy = int(np.sum(np.asarray(sides[0].surfaces["s1_site_weights"]["p_weight"]) >= 0.4))
    sites = len(sides[0].upstream.lat_deg)
    assert figures["map_sites"].says.startswith(f"{heavy} of {sites} sites")


def test_the_calendar_is_of_the_merchant_it_names():
    world = tiny_world(sites={1: {"Asia/Tokyo": 9}, 2: {"Europe/Paris": 1, "Europe/Rome": 4},
                              3: {"Europe/Paris": 3, "Europe/Rome": 4}, 4: {"Asia/Tokyo": 1, "Europe/Paris": 1,
                                                                            "Europe/Rome": 30}})  # fmt: skip
    everyone = np.ones(len(world.merchant_id), np.bool_)
    assert typical_merchant(world, everyone) == (3, 2, 7)
    assert typical_merchant(world, world.merchant_id != 3) != (3, 2, 7), "one that the other world lacks is not taken"


@pytest.mark.parametrize(("figure", "marks"), [
    ("s4_max_p", ("B ≤ 0.85", "B+ ≤ 0.78", "cap 0.78")), ("s4_entropy", ("B ≥ 0.35", "B+ ≥ 0.45", "floor 0.35")),
    ("s1_gap", ("B ≥ 0.03", "B+ ≥ 0.05")), ("s3_by_segment", ("B ≥ 0.03", "B+ ≥ 0.04")),
])  # fmt: skip
def test_gates_cap_and_floor_are_marked(drawn, figure, marks):
    assert all(f">{mark}</text>" in drawn[figure] for mark in marks)


def test_a_regularizer_that_is_off_has_no_cap_to_mark(packs):
    world = tiny_world()
    off = tiny_run(packs("baseline"), world)
    found = {figure.id: svg(figure) for figure in METRICS.figures(off, off, GATES)}
    assert ">cap" not in found["s4_max_p"] and ">floor" not in found["s4_entropy"]


def test_an_svg_speaks_for_itself_and_carries_no_colour_of_its_own(figures, drawn):
    for name, text in drawn.items():
        assert 'role="img"' in text and f'aria-labelledby="{name}-t {name}-d"' in text
        assert f'<title id="{name}-t">' in text and figures[name].says.split(" ")[0] in text
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", text) and "http" not in text and "<image" not in text
        assert set(re.findall(r"var\(--([\w-]+)\)", text)) <= set(LIGHT)
        assert f'viewBox="0 0 {WIDTH} {figures[name].height}"' in text and "font-family" not in text


def test_only_dots_are_strokes_of_no_length(drawn):
    assert drawn["map_sites"].count("h.1") >= 5 and "h.1" not in drawn["s1_lorenz"]
    level = re.findall(r'd="M([\d.]+) ([\d.]+)L([\d.]+) \2"', drawn["s1_lorenz"])
    assert any(float(last) - float(first) > 300 for first, _, last in level), "grid lines reach across"


def test_both_sides_are_named_in_every_figure(drawn):
    assert all(">authority</text>" in text and ">candidate</text>" in text for text in drawn.values())


def test_ids_are_of_one_figure_alone(drawn):
    ids = [found for text in drawn.values() for found in re.findall(r' id="([^"]+)"', text)]
    assert len(ids) == len(set(ids))
    for text in drawn.values():
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text)) <= set(re.findall(r' id="([^"]+)"', text))


def test_the_same_figure_is_the_same_bytes(figures, sides):
    again = {figure.id: figure for figure in METRICS.figures(*sides, GATES)}
    for name, figure in figures.items():
        assert svg(figure) == svg(again[name]) and png(figure) == png(again[name])


def test_a_png_is_a_picture_at_one_and_a_half_times_the_size(figures):
    found = pngs([figures["s4_max_p"], figures["calendar"]])
    assert list(found) == ["s4_max_p.png", "calendar.png"]
    picture = Image.open(BytesIO(found["s4_max_p.png"]))
    assert picture.size == (1.5 * WIDTH, 1.5 * figures["s4_max_p"].height)
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_a_colour_outside_the_palette_is_an_error():
    stray = Figure("stray", "t", "s", 100, lambda canvas: canvas.subplots().plot([0, 1], color="#123456"))
    with pytest.raises(KeyError, match="#123456"):
        svg(stray)


def test_each_light_colour_names_one_token():
    assert len(set(LIGHT.values())) == len(LIGHT) and set(LIGHT) == set(DARK)
    light, dark = stylesheet().split("@media (prefers-color-scheme:dark)")
    for token in LIGHT:
        assert f"--{token}:{LIGHT[token]};" in light and f"--{token}:{DARK[token]};" in dark


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_is_legible_in_both_themes(theme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    grounds = [theme[name] for name in ("page", "surface", "sunken")]
    for token in ("ink", "muted", "candidate", "authority", "good", "bad", "unsure", "mark"):
        assert min(contrast(theme[token], ground) for ground in grounds) >= 4.5, token
    assert min(contrast(theme["ink"], theme[swing]) for swing in SWINGS) >= 4.5
    steps = [contrast(theme[share], theme["surface"]) for share in SHARES]
    assert steps == sorted(steps), "a ramp's lightness goes one way"


def test_figures_of_a_drawn_world_need_no_merchant_with_several_zones(packs):
    world = tiny_world(sites={1: {"Asia/Tokyo": 3}, 2: {"Europe/Paris": 2}})
    alone = tiny_run(packs("p3_recorded"), world)
    one_day = replace(alone, surfaces={})
    assert METRICS.figures(one_day, alone, GATES) == []
    assert all(svg(figure) for figure in METRICS.figures(alone, alone, GATES))


ABROAD = {1: {"Europe/Paris": 3, "Europe/Madrid": 2}, 2: {"Asia/Tokyo": 4, "Africa/Cairo": 1, "Europe/Berlin": 1}}
RENAMED = {1: {"Europe/Vienna": 3, "Europe/Rome": 2}, 2: {"Asia/Seoul": 4, "Africa/Lagos": 1, "Europe/Oslo": 1}}


def zone_spreads(run):
    """Zone -> the median over its merchants of the deviation of gamma over days, row by row."""
    gammas = {}
    for row in run.surfaces["s3_day_effects"].table().to_pylist():
        gammas.setdefault(row["tz_group_id"], {}).setdefault(row["merchant_id"], []).append(row["gamma"])
    return {zone: np.median([np.std(days, ddof=1) for days in of.values()]) for zone, of in gammas.items()}


@pytest.mark.plan("P1.2A.2")
def test_sides_on_different_worlds_are_paired_by_name(packs):
    """Another number of merchants, sites and zones, or as many zones of which only some are the same."""
    pack = packs("p3_wide")
    authority = tiny_run(pack, tiny_world(sites=ABROAD))
    candidate = tiny_run(pack, tiny_world(sites={**ABROAD, 2: {"Asia/Tokyo": 1, "Asia/Seoul": 1, "Europe/Berlin": 2}}))
    found = {figure.id: figure for figure in METRICS.figures(candidate, authority, GATES)}
    assert list(found) == IDS
    shared = zone_spreads(candidate).keys() & zone_spreads(authority).keys()
    assert shared == {"Europe/Paris", "Europe/Madrid", "Asia/Tokyo", "Europe/Berlin"}
    spreads = {zone: zone_spreads(candidate)[zone] for zone in shared}
    calm, wild = min(spreads, key=spreads.get), max(spreads, key=spreads.get)
    says = found["s3_by_zone"].says
    assert says.startswith("Each dot is one of 4 zones") and says.endswith("2 more are in one of the two worlds only.")
    assert f"Least {calm} ({spreads[calm]:.4f}), most {wild} ({spreads[wild]:.4f})" in says
    (rows,) = found["s3_by_zone"].draw.args
    for side, run in enumerate((authority, candidate)):
        own = zone_spreads(run)
        for area, names in (
            ("Asia (1)", ["Asia/Tokyo"]),
            ("Europe (3)", ["Europe/Berlin", "Europe/Madrid", "Europe/Paris"]),
        ):
            assert rows[area][side] == pytest.approx([own[name] for name in names], rel=1e-12), (side, area)
    for figure in found.values():
        assert svg(figure)


def test_worlds_that_share_no_zone_and_no_merchant_have_no_figure_of_either(packs):
    pack = packs("p3_wide")
    moved = tiny_run(pack, tiny_world(sites=RENAMED)), tiny_run(pack, tiny_world(sites=ABROAD))
    assert {*IDS} - {figure.id for figure in METRICS.figures(*moved, GATES)} == {"s3_by_zone"}
    others = {merchant + 10: zones for merchant, zones in ABROAD.items()}
    strangers = tiny_run(pack, tiny_world(sites=others)), tiny_run(pack, tiny_world(sites=ABROAD))
    assert {*IDS} - {figure.id for figure in METRICS.figures(*strangers, GATES)} == {"calendar"}
