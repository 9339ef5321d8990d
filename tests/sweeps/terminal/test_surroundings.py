"""An unusual environment changes nothing that the command says."""

import pytest


@pytest.mark.parametrize("surroundings", [{"PYTHONWARNINGS": "error"}, {"PYTHONOPTIMIZE": "2"}], ids=str)
def test_what_libraries_warn_of_is_neither_printed_nor_an_error(lanelock, tmp_path, surroundings):
    place = tmp_path / "workspace"
    for folder in ("locks", "runs", "artifacts"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "mlflow.db").touch()
    code, _, err = lanelock("sync", "--check", "--quiet", workspace=place, **surroundings)
    assert (code, err) == (0, "")
