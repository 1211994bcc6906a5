"""One bit depth from the bundle to whatever decodes images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.engines import open_engine
from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.spec import InputSpec
from tests.bundles import HEIGHT, WIDTH, even_frames, write_tiny_bundle
from tests.runtime.belts import Kept

DEEP = InputSpec(HEIGHT, WIDTH, bit_depth=12)


def test_a_line_reads_16_bit_images_as_its_bundle_says(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    part = even_frames(1)[0]
    for name, image in (
        ("8.png", part),
        ("part2.png", part.astype(np.uint16) << 4),
        ("part3.png", part.astype(np.uint16) << 8),
    ):
        cv2.imwrite(str(tmp_path / "parts" / name), image)
    kept = Kept()
    with open_engine(write_tiny_bundle(tmp_path / "deep", input=DEEP)) as engine:
        Line([open_source(str(tmp_path / "parts"))], Detector(engine), [kept]).run()
    eight, twelve, sixteen = kept.results
    assert eight.detection is not None
    assert twelve.detection is not None
    assert twelve.detection.score == eight.detection.score
    assert sixteen.verdict == "INVALID"
    assert "--bit-depth 12" in (sixteen.reason or "")


def test_a_swap_to_a_model_of_another_bit_depth_is_refused(tmp_path: Path) -> None:
    deep, full = write_tiny_bundle(tmp_path / "deep", input=DEEP), write_tiny_bundle(tmp_path / "full")
    with open_engine(full) as engine:
        line = Line([open_source("test://?frames=1")], Detector(engine), reload=ModelLoader(deep.path).load)
        with pytest.raises(ConfigError, match="16-bit images of 12 bits, the one in use of 16"):
            line.swap()
