"""The folder of a registered model: the lock's folder, and MLflow's description of how it is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lanelock.policies import PolicyError
from lanelock.policies.documents import digest
from lanelock.policies.files import read_bytes

if TYPE_CHECKING:
    from lanelock.sweeps.proof.lock import Lock

LOADER = "lanelock.service"  # the module that loads a registered model; its name is fixed
MLMODEL, DATA = "MLmodel", "data"  # MLflow's description, and the folder in which the lock's folder is
_LARGEST = 1 << 20  # bytes of a description
_LOOSE = {"model_uuid", "utc_time_created", "model_size_bytes", "mlflow_version"}  # differ each time a model is saved


def model_config(lock: Lock) -> dict[str, Any]:
    """Returns what a registered model may be told when it is loaded, with the defaults. MLflow drops anything else."""
    return {"seed": lock.seeds[0], "lock_id": lock.lock_id, "trust": None}


def fingerprint(model: Path) -> str:
    """Returns a digest of every file in a model's folder: what is loaded, by which module, in which environment.

    Of MLflow's description, the fields that differ each time a model is saved are left out; they change nothing that
    is loaded.
    """
    paths = sorted(path for path in model.rglob("*") if path.is_symlink() or not path.is_dir())
    return digest({path.relative_to(model).as_posix(): _digest(path, path == model / MLMODEL) for path in paths})


def _digest(path: Path, description: bool) -> str:
    if path.is_symlink() or not path.is_file():
        return "no file"
    content = read_bytes(path)
    if description:
        try:
            if len(content) > _LARGEST or any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content)):
                raise ValueError  # an alias could stand for more than memory holds
            fields = yaml.safe_load(content)
            return digest({name: value for name, value in fields.items() if name not in _LOOSE})
        except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError, PolicyError):
            pass  # not a description that we wrote: its bytes say so
    return hashlib.sha256(content).hexdigest()
