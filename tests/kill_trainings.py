"""Kill a training before each n-th of its steps in turn, and let it go on after each: `n` as argument. Prints JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a fork copies one thread only; before torch is imported

import torch

from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.training.trainer import train
from tests.faults import killed_at
from tests.runs import write_parts
from tests.training.test_trainer import CONFIG, assert_same, new_model

torch.set_num_threads(1)
logging.disable()
counts: Counter[str] = Counter(different=0)
with tempfile.TemporaryDirectory() as temporary:
    parts, step = load_dataset(write_parts(Path(temporary, "parts"))), 0

    unbroken = train(new_model(), parts.train, CONFIG, Path(temporary, "unbroken"))
    while True:
        work = partial(train, new_model(), parts.train, CONFIG, Path(temporary, f"run{step}"), resume=True)
        if not killed_at(step, work):
            break
        counts["killed"] += 1
        run = train(new_model(), parts.train, CONFIG, Path(temporary, f"run{step}"), resume=True)
        try:
            assert_same(run, unbroken)
            assert not list(run.folder.glob(".*"))
            counts["same"] += 1
        except AssertionError:
            counts["different"] += 1
        step += int(sys.argv[1])
print(json.dumps(counts))  # noqa: T201
