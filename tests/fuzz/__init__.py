"""`make fuzz`: documents, tables and command lines with something wrong in them, and what the product says of each.

Three parts: `changes` says what goes wrong, as data that a line of text holds; `subjects` names every document and what
reads it; `judge` says whether the answer was right. `machine` tries inputs one after the other; each follows from
(kind, seed, number), so that one line gives it again.
"""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TESTS = FOLDER.parent
ROOT = TESTS.parent
for place in (ROOT / "src", TESTS, TESTS / "queue_engine"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))  # as pytest has them, where this is started by `python -m tests.fuzz`
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # read when NumPy is imported
