"""A generator of synthetic diabetes patients: age, body mass index, blood pressure and two blood values.

It knows what a paper prints in its first table, and no patient's record: the mean and standard deviation of each
column, and the correlations, rounded. A Student t copula joins the columns; each has a skewed (Pearson III) shape.
"""

import numpy as np
from scipy import stats

# column -> mean, standard deviation, lowest and highest plausible value, decimals
COLUMNS = {
    "age": (48.5, 13.1, 18, 90, 0),  # years
    "bmi": (26.4, 4.4, 15, 50, 1),  # kg/m2
    "pressure": (94.6, 13.8, 55, 145, 0),  # mean arterial pressure, mmHg
    "hdl": (49.8, 12.9, 20, 110, 0),  # mg/dl
    "glucose": (91.3, 11.5, 55, 130, 0),  # mg/dl, fasting
}
CORRELATION = np.array(  # rounded as printed; the order of COLUMNS
    [
        [1.0, 0.2, 0.3, -0.1, 0.3],
        [0.2, 1.0, 0.4, -0.4, 0.4],
        [0.3, 0.4, 1.0, -0.2, 0.4],
        [-0.1, -0.4, -0.2, 1.0, -0.3],
        [0.3, 0.4, 0.4, -0.3, 1.0],
    ]
)


def generate(params: dict, seed: int) -> dict:
    """Returns one table of `patients` rows, a column per name of COLUMNS."""
    draw = np.random.default_rng(seed)
    size, n = len(COLUMNS), params["patients"]
    links = np.where(np.eye(size, dtype=bool), 1.0, params["strength"] * CORRELATION)
    factor = np.linalg.cholesky(links)  # raises where the strength asks for more than correlations can be
    normal = draw.standard_normal((n, size)) @ factor.T
    common = np.sqrt(params["tail"] / draw.chisquare(params["tail"], (n, 1)))
    ranks = stats.t.cdf(normal * common, params["tail"])
    return {name: column(name, params, ranks[:, i]) for i, name in enumerate(COLUMNS)}


def column(name: str, params: dict, ranks: np.ndarray) -> np.ndarray:
    """Returns a column: `ranks` in (0, 1), turned into values, limited to what is plausible and rounded."""
    mean, deviation, low, high, decimals = COLUMNS[name]
    skew = params[f"skew_{name}"]
    values = mean + params["spread"] * deviation * stats.pearson3.ppf(ranks, skew)
    return np.round(np.clip(values, low, high), decimals)
