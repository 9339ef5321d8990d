"""The search, and everything around it.

What the user set in the environment for the record is read here, before any other library can say otherwise.
"""

import os
import sys

_TRACKING_URI = "MLFLOW_TRACKING_URI"


def _chosen_tracking_uri() -> str | None:
    """Returns the tracking address that the user set before this package was imported.

    `mlflow.set_tracking_uri` also sets the variable, for child processes. If MLflow still gives the same address after
    the variable is removed, then MLflow set the variable, and not the user.
    """
    uri, mlflow = os.environ.get(_TRACKING_URI), sys.modules.get("mlflow")
    if uri is None or mlflow is None:
        return uri or None
    del os.environ[_TRACKING_URI]
    try:
        return None if mlflow.get_tracking_uri() == uri else uri
    finally:
        os.environ[_TRACKING_URI] = uri


TRACKING_URI = _chosen_tracking_uri()
