"""The memory of a serialised graph, read and filled without the ONNX package: held against that package."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from simplenet_edge.contract import COORDINATES, LESSON_PRODUCTS, LESSON_SQUARES, MEMORY_FLOOR
from simplenet_edge.errors import BundleError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.precision.fp16 import to_fp16
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.runtime.teach.graph_memory import GraphMemory, with_coordinates
from simplenet_edge.spec import SimpleNetConfig
from tests.bundles import tiny_graph
from tests.models import random_model

DIM, ROOM = 8, 256


@functools.lru_cache
def graph() -> bytes:
    config = SimpleNetConfig(
        backbone="resnet18",
        layers=("layer1", "layer2"),
        pretrain_embed_dim=32,
        target_embed_dim=32,
        discriminator_hidden=16,
        memory_size=30,
        memory_dim=DIM,
    )
    model = random_model(config)
    return bytes(to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec).SerializeToString())


def constants(data: bytes) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(data).graph.initializer}


def frames() -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)


def test_it_reads_what_the_onnx_package_reads() -> None:
    memory = GraphMemory(graph())
    assert (memory.size, memory.spare) == (0, ROOM)
    assert memory.floor == constants(graph())[MEMORY_FLOOR]


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 100), min_size=1, max_size=2), seed=st.integers(0, 2**32 - 1))
def test_lessons_fill_the_places_one_after_the_other_and_change_nothing_else(counts: list[int], seed: int) -> None:
    rng, taught, added = np.random.default_rng(seed), graph(), []
    for count in counts:
        added.append(rng.normal(0, 3, (count, DIM)).astype(np.float32))
        taught = GraphMemory(taught).with_patches(added[-1])
    memory, before, after = GraphMemory(taught), constants(graph()), constants(taught)
    rows, size = np.concatenate(added), sum(counts)
    assert (memory.size, memory.spare) == (size, ROOM - size)
    np.testing.assert_array_equal(after[LESSON_PRODUCTS][:, :size].T, -2 * rows)
    np.testing.assert_allclose(after[LESSON_SQUARES][:size], np.square(rows).sum(1), rtol=1e-6)
    assert len(taught) == len(graph())
    for name, values in before.items():
        kept = (..., slice(size, None)) if name in (LESSON_PRODUCTS, LESSON_SQUARES) else ...
        np.testing.assert_array_equal(after[name][kept], values[kept])


def test_no_score_rises_and_a_frame_that_was_taught_whole_has_none_above_zero() -> None:
    session = onnxruntime.InferenceSession(with_coordinates(graph()), providers=["CPUExecutionProvider"])
    score, maps, patches = session.run(["score", "map", COORDINATES], {"frames": frames()})
    assert patches.shape == (2, DIM, 8, 12)
    assert score[0] > 1e-3
    taught = GraphMemory(graph()).with_patches(patches[0].reshape(DIM, -1).T)
    later = onnxruntime.InferenceSession(taught, providers=["CPUExecutionProvider"])
    new_score, new_maps = later.run(["score", "map"], {"frames": frames()})
    assert (new_score <= score).all()
    assert (new_maps <= maps + 1e-5 * np.abs(maps).max()).all()
    assert new_score[0] <= 1e-3  # rounding of the squares


def test_the_memory_of_an_fp16_graph_is_float32_too() -> None:
    half = to_fp16(onnx.load_from_string(graph()), {}).graph.SerializeToString()
    assert GraphMemory(half).spare == ROOM
    session = onnxruntime.InferenceSession(with_coordinates(half), providers=["CPUExecutionProvider"])
    assert session.run([COORDINATES], {"frames": frames()})[0].dtype == np.float32


def test_a_graph_without_a_memory_is_refused() -> None:
    with pytest.raises(BundleError, match="no memory"):
        GraphMemory(tiny_graph())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_graphs_are_refused_or_read_never_crashed_on(data: st.DataObject) -> None:
    whole = graph()
    end = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:end])
    for place in data.draw(st.lists(st.integers(0, max(end - 1, 0)), max_size=4)) if end else []:
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        GraphMemory(bytes(damaged))
