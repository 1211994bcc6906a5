"""A back-test of two bundles over real pictures: the file, the figures, the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from simplenet_edge.archive.options import ScoreOptions
from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import ConfigError
from simplenet_edge.evaluation.report.charts import agreement_svg, relative_histogram_svg
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.workflows.backtest_archive import backtest_archive
from tests.archive.pictures import scores_of, write_pictures
from tests.bundles import write_tiny_bundle
from tests.cli.conftest import Run, output_of, run
from tests.pages import require_alone

__all__ = ["run"]

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>&amp;\"'.png"


@pytest.fixture(scope="module")
def stricter(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model with a threshold within the good parts' scores."""
    point = OperatingPoint(13.0, alpha=0.05, n_calibration=40, guaranteed=True)
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "stricter", operating_point=point)


def test_the_figures_the_file_and_the_page(
    ray_here: None, run: Run, bundle: Bundle, stricter: Bundle, tmp_path: Path
) -> None:
    paths = write_pictures(tmp_path / "archive", 40)
    worst = scores_of(bundle, paths)
    flipping = [name for name, score in worst.items() if 13 < score <= 60]
    assert 1 < len(flipping) < 30
    top = Path(max(flipping, key=lambda name: worst[name]))
    hostile = top.rename(top.with_name(HOSTILE))
    (tmp_path / "archive" / "cut.png").write_bytes(hostile.read_bytes()[:-5])
    folder = tmp_path / "back<test>"
    words = ("backtest", bundle.path, stricter.path, tmp_path / "archive", "-o", folder)
    found = output_of(run(*words, "--json"))
    assert (found["pictures"], found["failed"], found["both_ng"]) == (40, 1, 10)
    assert (found["ok_to_ng"], found["ng_to_ok"]) == (len(flipping), 0)
    assert found["agreement"] == pytest.approx(1 - len(flipping) / 40)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert json.loads((folder / "backtest.json").read_text()) == found

    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    assert len(rows) == 41
    flips = [row["path"] for row in rows if (row["old_verdict"], row["new_verdict"]) == ("OK", "NG")]
    assert len(flips) == len(flipping)
    assert {row["new_bundle_id"] for row in rows} == {stricter.id}

    html = (folder / "backtest.html").read_text(encoding="utf-8")
    page = require_alone(html)
    assert str(hostile) in page.text
    assert "<img src=x" not in html
    section = re.search(r"<h2>From OK to NG</h2>(.*?)</section>", html, re.DOTALL)
    assert section is not None
    assert section[1].count("<figure>") == min(12, len(flipping))
    assert section[1].count("data:image/jpeg") == 3 * min(12, len(flipping))
    assert section[1].index("onerror") < section[1].index("</figure>")  # the one that changes most is the first
    assert "None." in html.partition("<h2>From NG to OK</h2>")[2]

    code, out, err = run(*words)
    assert code == 0, err
    assert "40 pictures" in out
    assert f"from OK to NG: {len(flipping)}, from NG to OK: 0" in err
    assert "40 of 41 pictures are scored already" in err


def test_a_picture_that_is_gone_is_said_so(ray_here: None, bundle: Bundle, stricter: Bundle, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "archive", 12)
    words = [str(tmp_path / "archive")]
    backtest_archive(bundle, stricter, words, tmp_path / "out", ScoreOptions())
    for path in paths[1:]:
        path.unlink()
    found, _ = backtest_archive(bundle, stricter, words, tmp_path / "out", ScoreOptions())
    assert found.pictures == 12
    assert "can&#x27;t be shown" in (tmp_path / "out" / "backtest.html").read_text(encoding="utf-8")


def test_one_bundle_twice_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name two different ones"):
        backtest_archive(bundle, bundle, [str(tmp_path)], tmp_path / "out", ScoreOptions())
    assert not (tmp_path / "out").exists()


def test_the_charts_count_every_picture(rng: np.random.Generator) -> None:
    old = rng.normal(0.5, 0.4, 500)
    new = np.where(rng.random(500) < 0.05, old + 1, old)
    old[0], new[0] = 1e6, -1e6  # far out of the plot
    for svg in (agreement_svg(old, new), relative_histogram_svg(old, new)):
        counts = [int(count) for count in re.findall(r"<title>(\d+) pictures", svg)]
        assert sum(counts) == (500 if "over those" in svg else 1000)
    cells = re.findall(r'class="bar (\w+)".*?<title>(\d+) pictures', agreement_svg(old, new))
    flips = int(((old > 1) != (new > 1)).sum())
    assert sum(int(count) for kind, count in cells if kind == "defective") == flips > 0
