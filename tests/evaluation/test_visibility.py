from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.evaluation.drawn_trials import sizes_px
from simplenet_edge.evaluation.report.visibility_page import write_visibility_page
from simplenet_edge.evaluation.visibility import Visibility, VisibilityConfig, measure_visibility
from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.sized_defects import SIZED_KINDS

CONFIG = VisibilityConfig(draws=120)
THRESHOLD = 6.0


def parts(n: int = 8, height: int = 60, width: int = 90) -> list[Frames]:
    return [np.full((height, width, 3), 120, np.uint8) for _ in range(n)]


def eyes(images: Sequence[Frames], until: int | None = None) -> np.ndarray:
    """How far the 5x5 pixels that differ most from grey do, in grey levels: sees spots from about 5 pixels; what lies
    right of `until` is not looked at.
    """
    seen = [np.abs(image[:, :until].astype(float) - 120).mean(axis=2) for image in images]
    return np.array([np.sort(one.ravel())[-25:].mean() for one in seen])


@pytest.fixture(scope="module")
def found() -> Visibility:
    return measure_visibility(eyes, parts(), THRESHOLD, CONFIG)


def test_what_is_larger_or_clearer_is_found(found: Visibility) -> None:
    for kind in SIZED_KINDS:
        faint, middle, clear = (found.size(kind, contrast).a90_px for contrast in CONFIG.contrasts)
        assert faint is not None
        assert middle is not None
        assert clear is not None
        assert 2 <= clear <= middle <= faint <= 30
    spot = found.size("spot", 0.1)
    assert spot.a90_px is not None
    assert spot.a90_95_px is not None
    assert 2 < spot.a90_px < spot.a90_95_px < 6  # 25 grey levels on 6 of 25 pixels are enough


def test_it_is_the_same_again_and_plain_json(found: Visibility) -> None:
    assert found == measure_visibility(eyes, parts(), THRESHOLD, CONFIG, batch_size=5)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["schema"] == 1
    assert len(values["sizes"]) == len(SIZED_KINDS) * (3 + 9)
    assert "curves" not in found.figures()
    for curve in found.curves:
        assert all(hits <= n for _, n, hits in curve.found)


def test_regions_are_told_apart() -> None:
    half_blind = measure_visibility(lambda images: eyes(images, until=60), parts(), THRESHOLD, CONFIG)
    for kind in ("spot", "missing"):
        sizes = [half_blind.size(kind, half_blind.region_contrast(kind), region) for region in range(9)]
        assert all(sizes[region].a90_95_px is not None for region in (0, 3, 6))
        assert all(sizes[region].a90_95_px is None for region in (2, 5, 8))


def test_where_nothing_is_found_no_size_is_reached_and_no_small_one_is_drawn() -> None:
    result = measure_visibility(lambda images: np.zeros(len(images)), parts(), THRESHOLD, CONFIG)
    assert all(size.a90_px is size.a90_95_px is None for size in result.sizes)
    assert min(size for curve in result.curves for size, _, _ in curve.found) > 11


def test_where_everything_is_found_the_smallest_drawn_is_the_answer() -> None:
    def judge(images: Sequence[Frames]) -> np.ndarray:
        return np.array([9.0 * bool((image != 120).any()) for image in images])

    result = measure_visibility(judge, parts(), THRESHOLD, CONFIG)
    assert all(size.a90_px == 2.0 for size in result.sizes)
    assert all(size.a90_95_px is not None and size.a90_95_px < 6 for size in result.sizes if size.region is None)


def test_good_images_that_are_ng_are_left_out() -> None:
    bright = [np.full((60, 90, 3), 200, np.uint8) for _ in range(3)]
    result = measure_visibility(eyes, [*parts(), *bright], THRESHOLD, CONFIG)
    assert (result.n_images, result.n_rejected) == (8, 3)
    with pytest.raises(DataError, match="at least 5 good images that are OK, found 4 of 7"):
        measure_visibility(eyes, [*parts(4), *bright], THRESHOLD, CONFIG)
    with pytest.raises(DataError, match="found 0 of 0"):
        measure_visibility(eyes, [], THRESHOLD, CONFIG)


def test_sizes_go_with_the_images_and_progress_with_the_defects() -> None:
    assert sizes_px(parts())[-1] == pytest.approx(2 * 2**3.5)  # 30 is half of the shorter side
    assert sizes_px([*parts(1, 5, 5)]) == [2.0]
    told: list[tuple[int, int]] = []
    result = measure_visibility(
        eyes, parts(), THRESHOLD, CONFIG, progress=lambda _, done, total: told.append((done, total))
    )
    assert told[-1] == (result.n_drawn, result.n_drawn)
    assert all(done <= total for done, total in told)


@pytest.mark.parametrize(
    "options", [{"draws": 99}, {"contrasts": (0.1,)}, {"contrasts": (0.0, 0.1)}, {"contrasts": (0.2, 0.1)}]
)
def test_options_that_tell_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        VisibilityConfig(**options)  # type: ignore[arg-type]


def test_the_page_stands_alone(found: Visibility, tmp_path: Path) -> None:
    path = tmp_path / "visibility.html"
    write_visibility_page(path, found, parts()[0], "gear <1>", ["These very images."])
    page = path.read_text(encoding="utf-8")
    assert "gear &lt;1&gt;" in page
    assert "These very images." in page
    assert page.count("data:image/jpeg") == 2 * len(SIZED_KINDS)
    assert page.count('aria-label="Probability of detection') == len(SIZED_KINDS)
    assert "http" not in page.replace("http://www.w3.org", "")
    size = found.size("spot", 0.1)
    assert f"{size.a90_px:.3g} / {size.a90_95_px:.3g} px" in page
