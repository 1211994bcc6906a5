from __future__ import annotations

import numpy as np
import pytest
from reject_contract import run_lines

from simplenet_edge.runtime.drift.change_detector import ChangeDetector


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_lines_that_jump_from_reject_to_reject_are_those_of_the_detector(rate: float) -> None:
    parts = 2000
    for seed in range(20):
        (first,), (evidence,) = run_lines(
            ChangeDetector(0.1, 500), np.array([rate]), parts, np.random.default_rng(seed)
        )
        detector, at, rng = ChangeDetector(0.1, 500), 0, np.random.default_rng(seed)
        while not detector.standing and at < parts:
            gap = min(int(rng.geometric([rate])[0]), parts - at + 1)
            detector.skip(gap - 1)
            at += gap
            if at <= parts:
                detector.add(True)
        assert first == (at if detector.standing else np.inf)
        assert evidence.mean() == pytest.approx(detector.evidence)
