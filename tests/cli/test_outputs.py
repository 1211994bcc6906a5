"""An output that can't be written is one error line, before the work, of each command that writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("place", ["file", "file/below", "long" * 100], ids=["a file", "below a file", "a long name"])
@pytest.mark.parametrize("command", ["train", "export", "evaluate", "sweep", "benchmark", "plots", "demo"])
def test_an_output_that_can_not_be_written(
    run: Run, parts: Path, run_folder: Path, bundle_path: Path, tmp_path: Path, command: str, place: str
) -> None:
    (tmp_path / "file").write_text("kept")
    output = tmp_path / place
    words = {
        "train": (*TRAIN, "--data", parts, "-o", output),
        "export": ("export", run_folder, "--overwrite", "-o", output),
        "evaluate": ("evaluate", run_folder, "--data", parts, "-o", output),
        "sweep": ("sweep", *TRAIN[1:], "--data", parts, "-o", output),
        "benchmark": ("benchmark", bundle_path, "--duration", "0.05", "--markdown", output / "b.md"),
        "plots": ("benchmark", bundle_path, "--duration", "0.05", "--plots", output),
        "demo": ("demo", "-o", output),
    }[command]
    code, out, err = run(*words)
    assert code in (2, 3, 5)
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
