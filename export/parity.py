"""The proof of an export: the model as written, the folded module and the ONNX graph, on the same frames.

Differences are shares of the range of the reference maps (`simplenet_edge.comparison`).
"""

from __future__ import annotations

import numpy as np
import torch

from simplenet_edge.comparison import FP32_TOLERANCE, Comparison, compare
from simplenet_edge.errors import ParityError
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.graph_editing import cpu_session
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, Prediction

__all__ = ["prove_parity", "random_frames", "run_graph"]


def random_frames(count: int, size_hw: tuple[int, int], seed: int = 0) -> Frames:
    """Seeded noise frames uint8 `(count, H, W, 3)`: nothing like a part, so they reach scores that good parts don't."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size_hw, 3), dtype=np.uint8)


def run_graph(graph: bytes, frames: Frames) -> Prediction:
    """What ONNX Runtime computes on the CPU from a graph and its frames uint8 `(B, H, W, 3)`."""
    return Prediction(*cpu_session(graph).run(["score", "map"], {"frames": frames}))


def prove_parity(
    model: SimpleNet,
    folded: DeployedSimpleNet,
    graph: bytes,
    frames: Frames,
    threshold: float,
    tolerance: float = FP32_TOLERANCE,
) -> tuple[Prediction, dict[str, Comparison]]:
    """The reference prediction of `frames`, and how far the folded module and the graph in ONNX Runtime are from it.

    Raises ParityError past the tolerance or where a verdict flips.
    """
    expected = model.predict(frames)
    with torch.inference_mode():
        score, maps = folded(torch.from_numpy(frames))
    found = run_graph(graph, frames)
    proof = {
        "folded": compare(Prediction(score.numpy(), maps.numpy()), expected, threshold, tolerance),
        "onnx": compare(found, expected, threshold, tolerance),
    }
    for name, comparison in proof.items():
        if not comparison.worst <= tolerance or comparison.verdict_flips:
            raise ParityError(
                f"the {name} model differs from the trained one by {comparison.worst:.1e} (allowed: "
                f"{tolerance:.0e}) with {comparison.verdict_flips} verdict flips (allowed: 0); no bundle was "
                "written: please report this"
            )
    return found, proof
