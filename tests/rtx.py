"""Compile graphs with TensorRT-RTX, whose builder needs no GPU: the check that TensorRT takes our graphs."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["ARCHITECTURES", "compile_plan"]

ARCHITECTURES = ("SM86", "SM89", "SM120")


def compile_plan(graph: bytes, size_hw: tuple[int, int], architecture: str) -> bytes:
    """The plan of a strongly typed graph for a GPU architecture; fails the test, with the parser's words, otherwise.

    Skips the test where the library is missing.
    """
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    height, width = size_hw
    profile.set_shape("frames", *((batch, height, width, 3) for batch in (1, 1, 4)))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, architecture), 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, f"TensorRT-RTX built nothing for {architecture}"
    return bytes(plan)
