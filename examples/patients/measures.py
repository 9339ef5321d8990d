"""Two metrics that need the whole table, in Python."""

from pathlib import Path

import numpy as np
import pandas as pd

REAL = pd.read_parquet(Path(__file__).with_name("reference.parquet"))


def correlation_gap(tables: dict) -> float:
    """Returns the greatest difference between a correlation here and among real patients."""
    return float(np.abs(frame(tables).corr() - REAL.corr()).to_numpy().max())


def copies(tables: dict) -> float:
    """Returns the number of rows that equal a real patient in every column."""
    return float(len(frame(tables).merge(REAL.drop_duplicates())))


def frame(tables: dict) -> pd.DataFrame:
    return tables["output"].to_pandas()[list(REAL.columns)]
