from __future__ import annotations

import math

import numpy as np
import pytest
import visibility
from visibility import held_out_sizes, over_redraws

from simplenet_edge.evaluation.drawn_trials import Defect, Found

SIZES = [4 * math.sqrt(2) ** k for k in range(8)]


@pytest.fixture
def pool() -> dict[str, list[Found]]:
    """Spots that are found with 90 % at 16 pixels and a contrast of 0.4."""
    rng, found = np.random.default_rng(0), []
    for size in SIZES * 120:
        contrast = float(rng.choice([0.1, 0.2, 0.4]))
        eta = math.log(9) + 4 * math.log(size / 16) + 4 * math.log(contrast / 0.4)
        hit = bool(rng.random() < 1 / (1 + math.exp(-eta)))
        found.append(Found(Defect("spot", size, contrast, int(rng.integers(9))), int(rng.integers(40)), hit))
    return {"spot": found}


def test_what_the_pool_says_is_compared_with_re_draws(
    pool: dict[str, list[Found]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visibility, "REDRAWS", 4)
    monkeypatch.setattr(visibility, "REGION_REDRAWS", 1)
    found = over_redraws(pool, SIZES[-1])
    whole = {row["contrast"]: row for row in found["rows"] if row["region"] is None}
    assert set(whole) == {0.2, 0.4}  # at 0.1 it takes 64 pixels
    assert whole[0.4]["a90_px"] == pytest.approx(16, rel=0.1)
    assert found["whole_image"] >= 0.5
    held_out = held_out_sizes(pool, SIZES)
    assert held_out["n"] == 4 * 3 * 3
    assert held_out["inside"] <= held_out["with_chance"]
    assert held_out["with_chance"] > 0.8
