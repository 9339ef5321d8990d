"""The audit's checks of S0 to S4: the tables from which arrivals are routed.

S1, S2 and S4 draw nothing, so every row is computed again by their laws; of S3 all but the draw itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from lanelock.engine.arithmetic import exps
from lanelock.engine.segment_2b.states import s1_site_weights, s2_alias_index, s3_day_effects, s4_group_weights
from lanelock.engine.segment_2b.states.s0_gate import seal
from lanelock.engine.segment_2b.states.s7_evidence import Evidence, Failing, any_differ, differ, is_not
from lanelock.engine.surface import table_digest

_LAYOUT, _EFFECTS, _MIX = "alias_layout_policy_v1", "day_effect_policy_v1", "group_mix_regularizer_v1"


def sealed(evidence: Evidence) -> Failing:
    """World, policies and roster have the digests that S0 sealed."""
    roster = evidence.sealed.digests().get("arrival_roster")
    now = seal(evidence.world, evidence.pack, evidence.seed, roster)
    changed = roster is not None and table_digest(evidence["s5_arrival_roster"].table()) != roster
    unsealed = [asset not in evidence.sealed.assets for asset in now.assets]
    return np.array([*unsealed, now != evidence.sealed, changed])


def site_mass(evidence: Evidence) -> Failing:
    """Per merchant: quantised weights sum to exactly 1, the uniform law's 1/N to 1 within rounding."""
    s1 = evidence["s1_site_weights"]
    total = np.add.reduceat(np.asarray(s1["p_weight"]), evidence.world.site_offsets[:-1])
    uniform = evidence.pack[_LAYOUT]["law"] == "uniform"
    return np.abs(total - 1.0) > (1e-12 if uniform else 0.0)


def sites_of_world(evidence: Evidence) -> Failing:
    s1, world = evidence["s1_site_weights"], evidence.world
    owner = np.repeat(world.merchant_id, np.diff(world.site_offsets))
    return (
        differ(s1["merchant_id"], owner)
        | differ(s1["legal_country_iso"], world.country)
        | differ(s1["site_order"], world.site_order)
        | ~(np.asarray(s1["p_weight"]) >= 0.0)
    )


def site_law(evidence: Evidence) -> Failing:
    """Per site: the weight and its origin are those of the policy's law."""
    law = s1_site_weights.site_weights(evidence.world, evidence.pack[_LAYOUT], evidence.sealed.created_utc)
    names = "p_weight weight_source quantised_bits floor_applied weight_profile mixture_component alpha_used"
    return any_differ(evidence["s1_site_weights"], law, names.split())


def alias_parity(evidence: Evidence) -> Failing:
    """Per slice: its merchant and digest match, and it decodes to S1's weights within a quantum."""
    index, blob = evidence["s2_alias_index"], bytes(np.asarray(evidence["s2_alias_blob"]["blob"])[0])
    weight, offsets = np.asarray(evidence["s1_site_weights"]["p_weight"]), evidence.world.site_offsets
    quantum = 2.0 ** -int(evidence.pack[_LAYOUT]["quantised_bits"])
    offset, length, digest = (np.asarray(index[name]) for name in ("offset", "length", "sha256"))
    failing = differ(index["merchant_id"], evidence.world.merchant_id) | differ(index["sites"], np.diff(offsets))
    for i in range(index.rows):
        piece = blob[offset[i] : offset[i] + length[i]]
        expected = weight[offsets[i] : offsets[i + 1]]
        decoded = s2_alias_index.decode(blob, offset[i], length[i])
        parity = len(decoded) == len(expected) and np.abs(decoded - expected).max() <= quantum
        failing[i] |= not parity or hashlib.sha256(piece).hexdigest() != digest[i]
    return failing


def alias_blob(evidence: Evidence) -> Failing:
    """The slices follow each other without a gap, and blob, size and digest agree."""
    whole, index = evidence["s2_alias_blob"], evidence["s2_alias_index"]
    blob = bytes(np.asarray(whole["blob"])[0])
    offset, length = np.asarray(index["offset"]), np.asarray(index["length"])
    ends = np.cumsum(length)
    sized = whole["size"][0] == len(blob) == ends[-1]  # type: ignore[index]
    digested = hashlib.sha256(blob).hexdigest() == np.asarray(whole["sha256"])[0]
    return np.array([not sized, not digested, bool(np.any(offset != ends - length))])


def day_grid(name: str) -> Callable[[Evidence], Failing]:
    """Returns a check, per row: there is one for every day of the policy's horizon and every group of the world."""

    def check(evidence: Evidence) -> Failing:
        rows, surface = evidence.grid, evidence[name]
        merchant = differ(surface["merchant_id"], rows.merchant_id)
        return merchant | differ(surface["utc_day"], rows.day) | differ(surface["tz_group_id"], rows.zone)

    return check


def gamma_positive(evidence: Evidence) -> Failing:
    gamma = np.asarray(evidence["s3_day_effects"]["gamma"])
    return np.asarray(~((gamma > 0.0) & np.isfinite(gamma)))


def day_draws(evidence: Evidence) -> Failing:
    """Per row: the draw has its own address in the policy's stream."""
    s3, rows = evidence["s3_day_effects"], evidence.grid
    failing = differ(s3["rng_counter_lo"], s3_day_effects.counters(rows))
    failing = failing | differ(s3["rng_counter_hi"], rows.merchant_id)
    return failing | is_not(s3["rng_stream_id"], evidence.pack[_EFFECTS]["rng_stream_id"])


def day_law(evidence: Evidence) -> Failing:
    """Per row: sigma and weekly amplitude follow from the policy, and gamma is the exponential of log gamma."""
    s3, policy = evidence["s3_day_effects"], evidence.pack[_EFFECTS]
    sigma, weekly_amp, _ = s3_day_effects.shape(evidence.world, evidence.grid, policy)
    gamma, log_gamma = np.asarray(s3["gamma"]), np.asarray(s3["log_gamma"])
    failing = ~(np.abs(exps(log_gamma) - gamma) <= 1e-12 * np.abs(gamma))
    failing |= differ(s3["sigma_gamma"], sigma) | differ(s3["sigma_value"], sigma)
    return np.asarray(failing | differ(s3["weekly_amp"], weekly_amp) | is_not(s3["sigma_source"], policy["law"]))


def gamma_echo(evidence: Evidence) -> Failing:
    return differ(evidence["s3_day_effects"]["gamma"], evidence["s4_group_weights"]["gamma"])


def base_share(evidence: Evidence) -> Failing:
    shares = s4_group_weights.base_shares(evidence.world, evidence["s1_site_weights"])
    return differ(evidence["s4_group_weights"]["base_share"], shares[evidence.grid.group])


def group_mass(evidence: Evidence) -> Failing:
    """Per merchant-day: shares sum to exactly 1 and no share is negative."""
    p, starts = np.asarray(evidence["s4_group_weights"]["p_group"]), evidence.grid.starts[:-1]
    return np.asarray((np.add.reduceat(p, starts) != 1.0) | ~(np.minimum.reduceat(p, starts) >= 0.0))


def group_law(evidence: Evidence) -> Failing:
    """Per row: mass, share and the regularizer's columns are those that the law computes from S1 and S3."""
    s4, rows = evidence["s4_group_weights"], evidence.grid
    raw = s4_group_weights.raw_mix(evidence.world, rows, evidence["s1_site_weights"], evidence["s3_day_effects"])
    law = s4_group_weights.group_weights(rows, raw, evidence.pack[_MIX], evidence.sealed.created_utc)
    names = "p_group mass_raw denom_raw regularizer_applied regularizer_strength regularizer_delta_mass"
    return any_differ(s4, law, names.split())


CHECKS = (
    ("inputs are those sealed", "S0", sealed),
    ("sites are the world's", "S1", sites_of_world),
    ("site weights sum to one", "S1", site_mass),
    ("site weights are the law's", "S1", site_law),
    ("alias slices decode to the weights", "S2", alias_parity),
    ("alias blob is whole", "S2", alias_blob),
    ("day grid is the policy's (S3)", "S3", day_grid("s3_day_effects")),
    ("gamma is positive", "S3", gamma_positive),
    ("day draws have their own addresses", "S3", day_draws),
    ("day effects are the law's", "S3", day_law),
    ("day grid is the policy's (S4)", "S4", day_grid("s4_group_weights")),
    ("gamma is echoed", "S4", gamma_echo),
    ("base shares are the weights' sums", "S4", base_share),
    ("shares sum to exactly one", "S4", group_mass),
    ("shares are the law's", "S4", group_law),
)
