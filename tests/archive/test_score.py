"""`score` through Ray, on one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from simplenet_edge.archive.options import ScoreOptions
from simplenet_edge.archive.score import score_archive
from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import ConfigError, DataError, EngineError
from tests.archive.pictures import rows_of, scores_of, write_pictures
from tests.bundles import THRESHOLD, tiny_graph, write_tiny_bundle
from tests.cli.conftest import run  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow


def test_an_archive_with_bad_pictures(
    ray_here: None,
    bundle: Bundle,
    tmp_path: Path,
    run: Any,  # noqa: F811
) -> None:
    paths = write_pictures(tmp_path / "archive", 150)
    for path in paths[-3:]:
        path.write_bytes(path.read_bytes()[:-9])
    output = tmp_path / "out" / "scores.parquet"
    words = ("score", bundle.path, tmp_path / "archive", tmp_path / "archive" / "*" / "*.png", "-o", output)
    code, out, err = run(*words)
    assert code == 0, err
    assert out.strip() == "150 pictures: 110 OK, 37 NG, 3 without a score"
    assert err.count("the PNG is cut off") + err.count("cut off before its end") == 3
    assert "scoring: 150/150" in err
    assert "\nresults:" in err
    found = rows_of(output)
    expected = scores_of(bundle, paths[:-3])
    assert {path: row["score"] for path, row in found.items() if not row["error"]} == pytest.approx(expected, rel=1e-5)
    for name, score in expected.items():
        assert found[name]["verdict"] == ("NG" if score > THRESHOLD else "OK")

    (tmp_path / "archive" / "new.png").write_bytes(paths[0].read_bytes())
    code, out, err = run(*words, "--json")
    assert code == 0, err
    again = json.loads(out)
    assert (again["pictures"], again["scored"], again["failed"]) == (151, 4, 3)  # the new one, and those that failed
    assert [error["path"] for error in again["errors"]] == sorted(map(str, paths[-3:]))
    assert len(rows_of(output)) == 151


def test_a_store_of_this_process(ray_here: None, bundle: Bundle, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    paths = write_pictures(tmp_path / "archive", 6)
    for path in paths:
        store.pipe(f"/lake/{path.name}", path.read_bytes())
    try:
        output = tmp_path / "scores.parquet"
        found = score_archive([bundle], ["memory://lake", f"file://{tmp_path}/archive"], output)
        rows = rows_of(output)
    finally:
        store.rm("/lake", recursive=True)
    assert (found.pictures, found.failed) == (12, 0)
    for path in paths:
        assert rows[f"memory:///lake/{path.name}"]["score"] == rows[str(path)]["score"]


def test_what_cannot_be_done_is_said(ray_here: None, bundle: Bundle, tmp_path: Path) -> None:
    write_pictures(tmp_path / "archive", 3)
    pictures, output = [str(tmp_path / "archive")], tmp_path / "scores.parquet"

    def score(options: ScoreOptions, words: list[str] = pictures, model: Bundle = bundle) -> None:
        score_archive([model], words, output, options)

    with pytest.raises(ConfigError, match="takes 1 of its 2 processors, the cluster has room for 2, not for 9"):
        score(ScoreOptions(workers=9))
    with pytest.raises(ConfigError, match="no engine is called"):
        score(ScoreOptions(engine="abacus"))
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        ScoreOptions(workers=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in"):
        score(ScoreOptions(), [str(tmp_path / "empty")])
    broken = write_tiny_bundle(tmp_path / "broken.zip", tiny_graph(last_op="Log"))
    with pytest.raises(EngineError, match="not finite"):
        score(ScoreOptions(engine="onnxruntime"), model=broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "broken.zip", "empty"]


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_without_the_extra(bundle: Bundle, tmp_path: Path, missing: str) -> None:
    write_pictures(tmp_path / "archive", 1)
    code = f"import sys; sys.modules[{missing!r}] = None; from simplenet_edge.cli import main; main()"
    words = ("score", bundle.path, tmp_path / "archive", "-o", tmp_path / "scores.parquet")
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'simplenet-edge[archive]'" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "scores.parquet").exists()
