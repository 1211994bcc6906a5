"""Every golden case of the official implementation, number by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simplenet_edge.model.backbone import Backbone, load_weights_file
from simplenet_edge.model.official import load_official_checkpoint
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import InputSpec, SimpleNetConfig

CASES = ["divisible", "overlapping", "deep_projection"]


def golden_model(shared: Path, case: str) -> tuple[SimpleNet, dict[str, Any]]:
    folder = shared / "golden" / case
    values = json.loads((folder / "config.json").read_text())
    config = SimpleNetConfig(
        backbone=values["backbone"],
        layers=tuple(values["layers"]),
        pretrain_embed_dim=values["pretrain_embed_dimension"],
        target_embed_dim=values["target_embed_dimension"],
        patch_size=values["patchsize"],
        patch_stride=values["patchstride"],
        standardize=False,
        projection_layers=values["pre_proj"],
        projection_type=values["proj_layer_type"],
        projection_batch_norm=False,
        discriminator_layers=values["dsc_layers"],
        discriminator_hidden=values["dsc_hidden"],
        smoothing_sigma=values["smoothing_sigma"],
    )
    size = values["input_size"]
    spec = InputSpec(size, size, mean=tuple(values["normalize_mean"]), std=tuple(values["normalize_std"]))
    backbone = Backbone(config.backbone, config.layers)
    load_weights_file(backbone, shared / values["weights"])
    model = SimpleNet(config, spec, backbone).eval()
    load_official_checkpoint(model, folder / "ckpt.pth")
    assert model.grid_hw == tuple(values["patch_grid"])
    with np.load(folder / "reference.npz") as reference:
        return model, dict(reference)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_implementation(shared: Path, case: str) -> None:
    model, reference = golden_model(shared, case)
    frames = reference["frames_bgr_uint8"]
    with torch.inference_mode():
        rows = model.embed(model.normalize(torch.from_numpy(frames))).reshape(
            len(frames), -1, model.config.target_embed_dim
        )
    prediction = model.predict(frames)
    for name, found, expected in (
        ("embedding", rows[:, :64].numpy(), reference["embedding_first_rows"]),
        ("score", prediction.score, reference["image_scores"]),
        ("map", prediction.map, reference["anomaly_maps"]),
    ):
        assert found.shape == expected.shape
        worst = np.abs(found - expected).max() / np.abs(expected).max()
        assert worst < 1e-4, f"{name}: relative difference {worst:.1e}"
