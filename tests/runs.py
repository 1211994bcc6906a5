"""A real training run of a few seconds, on parts that the demo draws."""

from __future__ import annotations

from pathlib import Path

from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.synthetic.flange import write_demo_dataset
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.trainer import train

SIZE = 64


def write_parts(folder: Path) -> Path:
    """20 good parts to train on, 4 good and 6 defective ones to test, 96 pixels wide."""
    write_demo_dataset(folder, n_train=20, n_test_good=4, n_defect_per_class=2, size=96)
    return folder


def train_briefly(parts: Path, folder: Path) -> TrainingRun:
    """ResNet18 with random weights on 64x64, two epochs: real in every step, good at nothing."""
    model = build_simplenet("resnet18", random_weights=True, size_hw=(SIZE, SIZE))
    config = TrainConfig(meta_epochs=1, gan_epochs=2, steps_per_epoch=2, batch_patches=128, alpha=0.3)
    return train(model, load_dataset(parts).train, config, folder)
