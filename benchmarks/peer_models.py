"""Anomalib's PatchCore, PaDiM and SuperSimpleNet as predictors, trained as anomalib trains them, within a CPU budget.

Anomalib's own model code runs (`anomalib.models.image.*.torch_model`), driven by plain loops that do what its Lightning
modules do. In: frames uint8 `(N, H, W, 3)` BGR of `reference`, the SimpleNet whose normalisation they share, and a
network with its layers; within `same_features`, the layers are those of `reference` itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.supersimplenet.loss import SSNLoss
from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel
from sklearn.random_projection import johnson_lindenstrauss_min_dim
from torch import Tensor, nn

from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, Prediction
from simplenet_edge.system import memory_bytes

__all__ = [
    "PADIM_FEATURES",
    "Peer",
    "Trained",
    "embed",
    "same_features",
    "train_padim",
    "train_patchcore",
    "train_supersimplenet",
]

BATCH_IMAGES = 8
PADIM_FEATURES = 100
"""Entries of the embedding that PaDiM keeps: anomalib's own number for ResNet18."""
_MEMORY_SHARE = 0.8  # of this machine's memory, which a coreset may take
_PROJECTION_EPS = 0.9  # of anomalib's random projection before the greedy choice


class Peer:
    """An anomalib model as a predictor: frames uint8 `(B, H, W, 3)` BGR in, its score and map out."""

    def __init__(self, model: nn.Module, reference: SimpleNet) -> None:
        self.model = model
        self.reference = reference

    @torch.inference_mode()
    def predict(self, frames: Frames) -> Prediction:
        """Scores `(B,)` and maps `(B, H, W)` of frames uint8 `(B, H, W, 3)`."""
        result = self.model.eval()(self.reference.normalize(torch.from_numpy(frames)))
        score = result.pred_score.reshape(-1).float().numpy()
        return Prediction(score, result.anomaly_map[:, 0].float().numpy())


class Trained(NamedTuple):
    """A peer, what its training came to, and whether it was done within its budget."""

    peer: Peer
    note: str
    finished: bool = True


class _Features(nn.Module):
    """The backbone of `reference` in the place of anomalib's `TimmFeatureExtractor`: images in, a map by layer out."""

    def __init__(self, reference: SimpleNet) -> None:
        super().__init__()
        self.backbone = reference.backbone
        shapes = reference.backbone.feature_shapes(reference.input_spec.size_hw)
        self.out_dims = [channels for channels, _, _ in shapes]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.backbone.layers, self.backbone(images), strict=True))


@contextmanager
def same_features(reference: SimpleNet) -> Iterator[nn.Module]:
    """Within it, anomalib's models are made on the very features that `reference` sees; gives the network to name."""
    with ExitStack() as stack:
        for model in ("padim", "patchcore", "supersimplenet"):
            name = f"anomalib.models.image.{model}.torch_model.TimmFeatureExtractor"
            stack.enter_context(mock.patch(name, return_value=_Features(reference)))
        yield reference.backbone


class _BudgetSpent(Exception):
    pass


class _BudgetedKCenterGreedy(KCenterGreedy):  # type: ignore[misc, unused-ignore]
    """Anomalib's greedy choice, which ends with the patches chosen so far once its CPU time is spent."""

    def __init__(self, embedding: Tensor, sampling_ratio: float, end_s: float) -> None:
        super().__init__(embedding=embedding, sampling_ratio=sampling_ratio)
        self._end_s = end_s
        self._chosen: list[int] = []

    def update_distances(self, cluster_center: Any) -> None:
        self._chosen.append(int(cluster_center))
        if time.process_time() > self._end_s:
            raise _BudgetSpent
        super().update_distances(cluster_center=cluster_center)

    def select_coreset_idxs(self) -> list[int]:
        try:
            chosen: list[int] = super().select_coreset_idxs()
        except _BudgetSpent:
            chosen = self._chosen
        return chosen


def embed(model: Any, reference: SimpleNet, frames: Frames) -> None:
    """Show all frames to a model that keeps their embeddings."""
    model.train().feature_extractor.eval()
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH_IMAGES):
            model(reference.normalize(torch.from_numpy(frames[start : start + BATCH_IMAGES])))
    model.eval()


def coreset_bytes(patches: int, dim: int) -> int:
    """What the greedy choice needs at least: the pool twice, and its projection with the differences to one patch."""
    projected = int(johnson_lindenstrauss_min_dim(n_samples=patches, eps=_PROJECTION_EPS))
    return 4 * patches * (2 * dim + 2 * projected)


def train_patchcore(
    frames: Frames, reference: SimpleNet, network: nn.Module, minutes: float = math.inf, *, coreset: float
) -> Trained:
    """All embeddings, then anomalib's greedy coreset of a share of them, or what `minutes` of CPU time leave of it.

    Raises MemoryError where the pool of patches does not fit this machine.
    """
    end_s = time.process_time() + 60 * minutes
    model = PatchcoreModel(reference.config.layers, network)
    shapes = reference.backbone.feature_shapes(reference.input_spec.size_hw)
    patches, dim = len(frames) * math.prod(shapes[0][1:]), sum(shape[0] for shape in shapes)
    needed = coreset_bytes(patches, dim)
    about = f"of {patches} patches of {dim} numbers, which take {needed / 2**30:.1f} GiB to choose from"
    if needed > _MEMORY_SHARE * memory_bytes():
        raise MemoryError(f"the coreset {about}; this machine has {memory_bytes() / 2**30:.1f} GiB")
    embed(model, reference, frames)

    def sampler(embedding: Tensor, sampling_ratio: float) -> KCenterGreedy:
        return _BudgetedKCenterGreedy(embedding, sampling_ratio, end_s)

    with torch.inference_mode(), mock.patch("anomalib.models.image.patchcore.torch_model.KCenterGreedy", sampler):
        model.subsample_embedding(coreset)
    kept, wanted = len(model.memory_bank), int(coreset * patches)
    note = f"coreset {coreset:.1%}, {kept} patches in memory, {about}"
    if kept < wanted:
        note += f"; cut off after {minutes:g} minutes of CPU time, wanted were {wanted}"
    return Trained(Peer(model, reference), note, kept >= wanted)


def train_padim(frames: Frames, reference: SimpleNet, network: nn.Module) -> Trained:
    """A Gaussian for each place, of `PADIM_FEATURES` entries of the embedding that chance draws."""
    layers = list(reference.config.layers)
    shapes = reference.backbone.feature_shapes(reference.input_spec.size_hw)
    kept = min(PADIM_FEATURES, sum(shape[0] for shape in shapes))
    model = PadimModel(network, layers, pre_trained=False, n_features=kept)
    embed(model, reference, frames)
    with torch.inference_mode():
        model.fit()
    return Trained(Peer(model, reference), f"{kept} of the embedding's entries")


def train_supersimplenet(frames: Frames, reference: SimpleNet, network: nn.Module, minutes: float) -> Trained:
    """Optimiser, rates and schedule of anomalib's Lightning module, over `minutes` of CPU time, not 300 epochs."""
    model, loss_of = SupersimplenetModel(backbone=network, layers=list(reference.config.layers)), SSNLoss()
    optimizer = torch.optim.AdamW(
        [
            {"params": model.adaptor.parameters(), "lr": 1e-4},
            {"params": model.segdec.parameters(), "lr": 2e-4, "weight_decay": 1e-5},
        ]
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    rng, started, images, done = np.random.default_rng(0), time.process_time(), 0, 0.0
    batch_images = min(BATCH_IMAGES, len(frames))
    model.train()
    while done < 1:
        batch = torch.from_numpy(frames[np.sort(rng.choice(len(frames), batch_images, replace=False))])
        anomaly_map, score, masks, labels = model(reference.normalize(batch), labels=torch.zeros(len(batch)))
        loss = loss_of(pred_map=anomaly_map, pred_score=score, target_mask=masks, target_label=labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(batch)
        done = (time.process_time() - started) / (60 * minutes)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 if done < 0.8 else 0.4 if done < 0.9 else 0.16)
    epochs = images / len(frames)
    note = f"{minutes:g} minutes of CPU time, {epochs:.1f} epochs (the default is 300)"
    return Trained(Peer(model, reference), note, epochs >= 300)
