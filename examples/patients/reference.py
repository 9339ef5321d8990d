"""Writes reference.parquet, a table of 442 real diabetes patients (Efron and others, Least Angle Regression, 2004).

scikit-learn ships the table, and MLflow installs scikit-learn.
"""

from pathlib import Path

from sklearn.datasets import load_diabetes

NAMES = {"age": "age", "bmi": "bmi", "bp": "pressure", "s3": "hdl", "s6": "glucose"}

if __name__ == "__main__":
    table = load_diabetes(as_frame=True, scaled=False).data[list(NAMES)].rename(columns=NAMES)
    table.to_parquet(Path(__file__).with_name("reference.parquet"), index=False)
