"""`--size auto`: candidates keep the aspect, and the smallest that shows drawn defects nearly as well is taken."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.data.samples import Sample
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.workflows.input_size import AREAS, choose_size, input_sizes, with_size
from simplenet_edge.workflows.probe import probe_images, window_size

OPTIONS = TrainingOptions()


@given(height=st.integers(8, 6000), width=st.integers(8, 6000), spread=st.floats(1, 1.4))
def test_sizes_grow_in_whole_cells_and_never_far_beyond_the_camera(height: int, width: int, spread: float) -> None:
    sizes = input_sizes((height, width), (height / width / spread, height / width))
    areas = [h * w for h, w in sizes]
    assert areas == sorted(areas)
    assert all(side % 32 == 0 for size in sizes for side in size)
    assert all(area <= 1.1 * height * width for area in areas[1:])
    if max(height, width) <= 4 * min(height, width):
        assert areas[0] == pytest.approx(AREAS[0], rel=0.3)
        assert all(h / w == pytest.approx(height / width, rel=0.2) for h, w in sizes)


@pytest.mark.parametrize(
    ("image_hw", "aspects", "sizes"),
    [
        ((1250, 500), (2.5, 2.5), [(416, 160), (640, 256), (896, 352), (1280, 512)]),
        ((300, 300), (1.0, 1.0), [(256, 256)]),
        ((1024, 1024), (0.5, 2.0), [(256, 256), (416, 416), (576, 576), (800, 800)]),  # no common aspect
        ((64, 64), (1.0, 1.0), [(256, 256)]),
    ],
)
def test_candidates(image_hw: tuple[int, int], aspects: tuple[float, float], sizes: list[tuple[int, int]]) -> None:
    assert input_sizes(image_hw, aspects) == sizes


def textured(folder: Path, size_hw: tuple[int, int], n: int = 12) -> list[Sample]:
    """Images of a fine texture, in which a defect of one or two pixels is lost when it is shrunk."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        noise = cv2.GaussianBlur(rng.normal(128, 40, (*size_hw, 3)).astype(np.float32), (0, 0), 2)
        cv2.imwrite(str(folder / f"{i:02d}.png"), np.clip(noise, 0, 255).astype(np.uint8))
    return [Sample(path) for path in sorted(folder.iterdir())]


@pytest.mark.slow
def test_a_choice_is_kept_and_made_again_for_other_images(tmp_path: Path) -> None:
    good = textured(tmp_path / "good", (320, 640))
    messages: list[str] = []
    chosen = with_size(good, OPTIONS, tmp_path / "run", on_message=messages.append)
    kept = json.loads((tmp_path / "run" / "input.json").read_text(encoding="utf-8"))
    tried = {tuple(size): auroc for size, auroc in kept["tried"]}
    assert list(tried) == [(192, 352), (288, 576)]
    assert all(0.4 < auroc <= 1 for auroc in tried.values())
    best = max(tried.values())
    assert chosen.size_hw == next(size for size, auroc in tried.items() if auroc >= best - 0.02)
    assert "--size sets another" in messages[0]
    assert with_size(good, OPTIONS, tmp_path / "run", on_message=messages.append) == chosen
    assert len(messages) == 1
    with_size(good[1:], OPTIONS, tmp_path / "run", on_message=messages.append)
    assert len(messages) == 2


def test_a_size_that_is_named_or_the_papers_is_left_alone(tmp_path: Path) -> None:
    for options in (
        TrainingOptions(size_hw=(64, 96)),
        TrainingOptions(recipe="paper"),
        TrainingOptions(resize="center-crop", resize_to=300),
    ):
        assert with_size([], options, tmp_path) == options
    assert list(tmp_path.iterdir()) == []


def test_windows_of_all_images_are_of_one_size_and_scale_with_the_input(tmp_path: Path) -> None:
    good = textured(tmp_path / "good", (640, 200), n=5)
    cv2.imwrite(str(tmp_path / "good" / "other.png"), np.eye(600, 220, dtype=np.uint8)[..., None] * 255)
    (tmp_path / "good" / "damaged.png").write_bytes(b"no image")
    names = ("other.png", "damaged.png")
    images = probe_images([*good, *(Sample(tmp_path / "good" / name) for name in names)], OPTIONS.bit_depth)
    assert images is not None
    windows = [*images.train, *images.good, *images.drawn]
    assert {window.shape for window in windows} == {(512, 200, 3)}
    assert (len(images.train), len(images.good), len(images.drawn)) == (3, 3, 12)
    assert images.image_hw == (640, 200)
    assert window_size(images, (640, 192)) == (512, 192)
    assert window_size(images, (320, 96)) == (256, 96)


def test_too_few_images_and_flat_ones_take_the_smallest(tmp_path: Path) -> None:
    assert choose_size(textured(tmp_path / "good", (640, 640), n=3), OPTIONS).size_hw == (256, 256)
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((640, 640, 3), 7 * i, np.uint8))
    assert choose_size([Sample(path) for path in tmp_path.glob("*.png")], OPTIONS).size_hw == (256, 256)
