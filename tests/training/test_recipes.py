"""Options become an untrained model and a recipe, or a message that says what can't work."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.errors import ConfigError
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.recipes import paper_recipe, prepare

SMALL: dict[str, Any] = {"backbone": "resnet18", "random_weights": True, "size_hw": (64, 96)}


def test_left_out_options_are_the_recipes() -> None:
    model, config = prepare(TrainingOptions(**SMALL))
    assert config == TrainConfig(augment=AugmentConfig())
    assert model.input_spec.size_hw == (64, 96)
    assert (model.config.standardize, model.config.memory_size, model.config.alignment) == (
        True,
        4000,
        "receptive-field",
    )


def test_every_option_arrives() -> None:
    options = TrainingOptions(
        **SMALL,
        layers=("layer1", "layer2"),
        resize_to=100,
        alpha=0.05,
        meta_epochs=3,
        noise_std=0.5,
        memory=7,
        augment=2,
        rotate_degrees=10.0,
        budget_s=60.0,
    )
    model, config = prepare(options, seed=4)
    assert config == TrainConfig(
        alpha=0.05, meta_epochs=3, noise_std=0.5, augment=AugmentConfig(2, rotate_degrees=10.0), budget_s=60.0, seed=4
    )
    assert (model.config.layers, model.config.memory_size) == (("layer1", "layer2"), 7)
    assert (model.input_spec.resize, model.input_spec.resize_to) == ("center-crop", 100)


def test_the_papers_recipe_has_the_papers_model() -> None:
    model, config = prepare(TrainingOptions(**SMALL, recipe="paper", alpha=0.1, augment=1, budget_s=9.0), seed=2)
    assert (model.config.standardize, model.config.memory_size, model.config.score_top_k) == (False, 0, 1)
    expected = TrainConfig(alpha=0.1, augment=AugmentConfig(1), budget_s=9.0, seed=2)
    assert config == paper_recipe(expected, model.grid_hw)
    _, shorter = prepare(TrainingOptions(**SMALL, recipe="paper", meta_epochs=2, noise_std=0.1))
    assert (shorter.meta_epochs, shorter.noise_std) == (2, 0.1)


def test_the_seed_draws_the_networks() -> None:
    first, again, other = (prepare(TrainingOptions(**SMALL), seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "secret"}, "recipe must be default or paper, not 'secret'"),
        ({"resize": "squash"}, "resize must be one of stretch, .*, not 'squash'"),
        ({"recipe": "paper", "memory": 7}, "leave --memory out"),
        ({"rotate_degrees": 5.0, "augment": 0}, "--rotate turns the extra frames of --augment"),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:N"),
        ({"device": "cuda:"}, "device must be cpu, cuda or cuda:N"),
    ],
)
def test_options_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingOptions(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": 2.0}, "alpha must be between 0 and 1"),
        ({"augment": -1}, "copies must be at least 1"),
        ({"meta_epochs": 0}, "meta_epochs must be at least 1"),
        ({"budget_s": -1.0}, "budget_s must be positive"),
        ({"layers": ("layer9",)}, "no layer 'layer9'"),
        ({"memory": -1}, "memory_size"),
    ],
)
def test_values_that_can_not_work(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(TrainingOptions(**SMALL, **values))


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device is usable here"):
        prepare(TrainingOptions(**SMALL, device="cuda:1"))


def test_naming_options_imports_nothing_heavy() -> None:
    code = "import sys, simplenet_edge.training.options; print([m for m in ('torch', 'cv2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
