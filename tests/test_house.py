"""The house stands as its table says: imports run one way, in no circle, and each outside library has its one door."""

import ast
import re

import house
import pytest

from lanelock.policies.documents import read_json

DOORS = {"mlflow": "sweeps/record/tracking.py", "optuna": "sweeps/lanes/study.py"}
