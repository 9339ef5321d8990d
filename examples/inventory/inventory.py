"""An (s, S) inventory: one product, one warehouse, reviewed every evening for two years.

Stock and demand are in pieces, time is in days. When stock and open orders together have fallen to `reorder_point` (s)
or below, the evening's order fills them up to `order_up_to` (S). The order arrives after the supplier's lead time.
Demand that finds an empty shelf is lost to a competitor.
"""

import numpy as np

DAYS, WARM_UP = 730, 60  # the first two months, which begin with a full shelf, are not counted


def simulate(params: dict, seed: int) -> dict:
    """Returns the figures of one product in two simulated years. Raises ValueError where an order fits on no truck."""
    draw = np.random.default_rng(seed)
    demand = demand_of(params, draw)
    lead = draw.choice(params["lead_times"], DAYS)
    arriving = np.zeros(DAYS + max(params["lead_times"]) + 1, int)
    stock, on_order = params["order_up_to"], 0
    rows = np.zeros((DAYS, 3), int)
    for day in range(DAYS):
        stock, on_order = stock + arriving[day], on_order - arriving[day]
        sold = min(stock, demand[day])
        stock -= sold
        order = params["order_up_to"] - stock - on_order if stock + on_order <= params["reorder_point"] else 0
        if order > params["truck"]:
            raise ValueError(f"day {day}: an order of {order} pieces, and the truck takes {params['truck']}")
        arriving[day + lead[day]] += order
        on_order += order
        rows[day] = stock, sold, order
    return figures(rows[WARM_UP:], demand[WARM_UP:])


def demand_of(params: dict, draw: np.random.Generator) -> np.ndarray:
    """Returns the pieces asked for on each day: negative binomial, its variance `clumping` times its mean.

    Saturdays have 40 % more.
    """
    mean = params["demand"] * np.where(np.arange(DAYS) % 7 == 5, 1.4, 1.0)
    chance = 1 / params["clumping"]
    return draw.negative_binomial(mean * chance / (1 - chance), chance)


def figures(rows: np.ndarray, demand: np.ndarray) -> dict:
    """Returns the numbers that Lanelock grades. `rows` has [stock in the evening, sold, ordered] per day."""
    stock, sold, order = rows.T
    return {
        "fill_rate": sold.sum() / demand.sum(),  # share of the pieces asked for that were on the shelf
        "mean_stock": stock.mean(),  # pieces in the evening: the money that is tied up
        "max_stock": int((stock + sold).max()),  # pieces in the morning: the shelf that they need
        "orders_per_week": 7 * np.mean(order > 0),
    }
