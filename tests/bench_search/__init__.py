"""`make bench-search`: how good the search is, beside random sampling, Optuna, BoTorch and pymoo at equal trials."""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
if (place := str(FOLDER / "problems")) not in sys.path:
    sys.path.append(place)  # where the problems' entry points are found
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # a processor second is one of one thread; read when NumPy is imported
