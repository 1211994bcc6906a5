from __future__ import annotations

from pathlib import Path

import pytest

from simplenet_edge.bundle import Bundle
from tests.cli.conftest import Run


def test_adds_a_version_at_a_time(run: Run, bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "part"
    words = ("triton", bundle.path, "-o", folder.parent, "--name", "part")
    for version, more in (("1", ("--max-batch", "16")), ("1", ()), ("3", ("--version", "3"))):
        code, out, err = run(*words, *more)
        assert (code, out) == (0, f"{folder / version}\n")
        assert f"tritonserver --model-repository={folder.parent}" in err
    assert "max_batch_size: 16" in (folder / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--backend", "openvino"], 2, "--backend must be"),
        (["--name", "a/b"], 2, "a model's name"),
        (["--max-batch", "0"], 2, "from 1 to 1024"),
        (["--precision", "fp16"], 5, "no fp16 graph"),
        (["--version", "-1"], 2, "versions are 1, 2"),
    ],
)
def test_what_can_t_be_written(
    run: Run, bundle: Bundle, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    found, out, err = run("triton", bundle.path, "-o", tmp_path / "repository", *words)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "repository").exists()
