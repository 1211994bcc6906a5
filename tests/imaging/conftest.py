"""A picture to encode and to resize."""

from __future__ import annotations

import cv2
import numpy as np
import pytest


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    """A smooth colour picture, uint8 (60, 90, 3) BGR, that lossy formats keep well."""
    return cv2.GaussianBlur(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8), (0, 0), 4)
