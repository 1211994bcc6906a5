"""Does an engine give, on this device, the numbers that the bundle's model gave? Replays the golden frames.

Differences are of raw scores and maps; relative ones are divided by the scale (`simplenet_edge.comparison`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from simplenet_edge.comparison import FP32_TOLERANCE, map_scale, verdict_flips
from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import ConfigError, ParityError

__all__ = ["FrameComparison", "Verification", "verify"]


@dataclass(frozen=True)
class FrameComparison:
    """One golden frame: raw scores, largest differences, and whether the verdict changed."""

    index: int
    expected_score: float
    found_score: float
    score_difference: float
    map_difference: float
    flipped: bool


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    `passed`: no score and no pixel differs by more than `tolerance * scale`, and no verdict flips. The golden verdict
    is that of FP32 at its threshold, or of the precision's own model, as INT8 has one; the found one that of the
    engine's precision at its own. A golden score that is as near the threshold as the bundle's tolerance for that
    precision may fall on either side; that is no flip.
    """

    bundle_id: str
    engine: str
    provider: str
    precision: str
    tolerance: float
    scale: float
    max_score_difference: float
    max_map_difference: float
    max_relative_score_difference: float
    max_relative_map_difference: float
    flips: int
    passed: bool
    frames: tuple[FrameComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "frames": [dataclasses.asdict(frame) for frame in self.frames]}

    def require(self) -> Verification:
        """Itself when it passed; raises ParityError otherwise."""
        if not self.passed:
            worst = max(self.max_relative_score_difference, self.max_relative_map_difference)
            raise ParityError(
                f"the {self.engine} engine ({self.provider}, {self.precision}) does not give the bundle's numbers: "
                f"expected at most {self.tolerance:.1e} of the scale {self.scale:.4g} and no flipped verdict, found "
                f"{worst:.1e} and {self.flips} flipped of {len(self.frames)}; don't use it: build the engine again, "
                "or export again"
            )
        return self


def verify(engine: Engine, tolerance: float | None = None) -> Verification:
    """Replay the golden frames of an open engine's bundle, one by one.

    `tolerance` is relative to the scale; None means what the bundle says of the engine's precision.
    Raises ConfigError for a tolerance that is no number of at least 0, BundleError for golden frames that can't be
    used, EngineError when the engine fails.
    """
    record = engine.bundle.record(engine.precision)
    threshold = record.operating_point.threshold
    own = engine.bundle.has_own_golden(engine.precision)
    golden_threshold = threshold if own else engine.bundle.record().operating_point.threshold
    tolerance = record.tolerance if tolerance is None else tolerance
    if not tolerance >= 0:
        raise ConfigError(f"the tolerance must be at least 0, not {tolerance}")
    frames, golden = engine.bundle.golden(engine.precision)
    scale = map_scale(golden)
    found = [engine.predict(frames[index : index + 1]) for index in range(len(frames))]
    scores, maps = np.concatenate([one.score for one in found]), np.concatenate([one.map for one in found])
    room = max(FP32_TOLERANCE, record.tolerance) * scale
    flipped = verdict_flips(scores, golden.score, (threshold, golden_threshold), room).decided
    rows = [
        FrameComparison(
            index=index,
            expected_score=float(golden.score[index]),
            found_score=float(scores[index]),
            score_difference=abs(float(scores[index]) - float(golden.score[index])),
            map_difference=float(np.abs(maps[index] - golden.map[index]).max()),
            flipped=bool(flipped[index]),
        )
        for index in range(len(frames))
    ]
    max_score = max(row.score_difference for row in rows)
    max_map = max(row.map_difference for row in rows)
    flips = sum(row.flipped for row in rows)
    return Verification(
        bundle_id=engine.bundle.id,
        engine=engine.name,
        provider=engine.provider,
        precision=engine.precision,
        tolerance=tolerance,
        scale=scale,
        max_score_difference=max_score,
        max_map_difference=max_map,
        max_relative_score_difference=max_score / scale,
        max_relative_map_difference=max_map / scale,
        flips=flips,
        passed=max(max_score, max_map) <= tolerance * scale and flips == 0,
        frames=tuple(rows),
    )
