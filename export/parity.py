"""The proof of an export: the model as written, the folded module and the ONNX graph, on the same frames.

Differences are relative to the range of the reference maps, as `simplenet_edge.engines.verify` has it on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from simplenet_edge.engines.verify import FP32_TOLERANCE, map_scale
from simplenet_edge.errors import ParityError
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, Prediction

__all__ = ["Comparison", "compare", "prove_parity", "random_frames", "run_graph"]


@dataclass(frozen=True)
class Comparison:
    """One way to compute a prediction against another; differences are shares of the reference maps' range."""

    score_max: float
    score_mean: float
    map_max: float
    map_mean: float
    verdict_flips: int
    n_frames: int


def compare(found: Prediction, expected: Prediction, threshold: float) -> Comparison:
    """Differences of scores and maps, and the frames whose verdict differs at `threshold`.

    A frame whose reference score is equal to the threshold within the tolerance can't flip: rounding decides there.
    """
    scale = map_scale(expected)
    flips = (found.score > threshold) != (expected.score > threshold)
    decided = np.abs(expected.score - threshold) > FP32_TOLERANCE * scale
    score, maps = (np.abs(a.astype(np.float64) - b) / scale for a, b in zip(found, expected, strict=True))
    return Comparison(
        score_max=float(score.max()),
        score_mean=float(score.mean()),
        map_max=float(maps.max()),
        map_mean=float(maps.mean()),
        verdict_flips=int((flips & decided).sum()),
        n_frames=len(expected.score),
    )


def random_frames(count: int, size_hw: tuple[int, int], seed: int = 0) -> Frames:
    """Seeded noise frames uint8 `(count, H, W, 3)`: nothing like a part, so they reach scores that good parts don't."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size_hw, 3), dtype=np.uint8)


def run_graph(graph: bytes, frames: Frames) -> Prediction:
    """What ONNX Runtime computes on the CPU from a graph and its frames uint8 `(B, H, W, 3)`."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return Prediction(*session.run(["score", "map"], {"frames": frames}))


def prove_parity(
    model: SimpleNet, folded: DeployedSimpleNet, graph: bytes, frames: Frames, threshold: float
) -> tuple[Prediction, dict[str, Comparison]]:
    """The reference prediction of `frames`, and how far the folded module and the graph in ONNX Runtime are from it.

    Raises ParityError past the tolerance or where a verdict flips.
    """
    expected = model.predict(frames)
    with torch.inference_mode():
        score, maps = folded(torch.from_numpy(frames))
    found = run_graph(graph, frames)
    proof = {
        "folded": compare(Prediction(score.numpy(), maps.numpy()), expected, threshold),
        "onnx": compare(found, expected, threshold),
    }
    for name, comparison in proof.items():
        worst = max(comparison.score_max, comparison.map_max)
        if not worst <= FP32_TOLERANCE or comparison.verdict_flips:
            raise ParityError(
                f"the {name} model differs from the trained one by {worst:.1e} (allowed: {FP32_TOLERANCE:.0e}) with "
                f"{comparison.verdict_flips} verdict flips (allowed: 0); no bundle was written: please report this"
            )
    return found, proof
