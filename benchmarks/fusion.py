"""What the fold is worth: the chain as written, each folded form and the bare backbone, in one interleaved run.

    python benchmarks/fusion.py [--rounds 15] [--threads 2] [--model wide_resnet50_2 ...]

All take uint8 frames `(1, H, W, 3)`; the bare backbone ends in its feature maps (each reduced to one number, so that no
runtime can leave it out), the others in score and map. Weights are random: the time does not depend on them.
`ratio` is against the bare backbone in the same runtime, median over the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

import simplenet_edge  # noqa: F401 - first, since it turns ONNX Runtime's telemetry off

# isort: split
import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from machine import interleaved_ms, machine, summary, write_result
from torch import Tensor, nn

from simplenet_edge.engines.onnxruntime import session_options
from simplenet_edge.export.cost import as_written_cost, choose_forms, form_costs, memory_cost
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.folded_head import LayerForm
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet

MODELS = {"wide_resnet50_2": 288, "resnet18": 256, "efficientnet_lite0": 256}
FLOOR = "bare backbone"


class BareBackbone(nn.Module):
    """The deployed graph without its head: what any method on these features must pay."""

    def __init__(self, deployed: DeployedSimpleNet, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.deployed = deployed
        self.size_hw = size_hw

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The largest value of each feature map, as score and (B, 1, 1) map, so that the exporter's contract holds."""
        deployed = self.deployed
        images = frames.float().permute(0, 3, 1, 2).index_select(1, deployed.bgr_to_rgb)
        features = deployed.backbone(images * deployed.pixel_scale + deployed.pixel_shift)
        tops = torch.stack([features[layer].amax(dim=(1, 2, 3)) for layer in deployed.layers]).amax(dim=0)
        return tops, tops[:, None, None].expand(-1, *self.size_hw)


def graphs(model: SimpleNet) -> dict[str, onnx.ModelProto]:
    """One ONNX graph a candidate."""
    chosen = choose_forms(model)
    candidates: dict[str, nn.Module] = {"as written": model}
    for form in get_args(LayerForm):
        candidates[f"folded, {form}"] = DeployedSimpleNet(model, [form] * len(chosen))
    candidates["folded, chosen"] = DeployedSimpleNet(model, chosen)
    candidates[FLOOR] = BareBackbone(DeployedSimpleNet(model, chosen), model.input_spec.size_hw)
    return {name: to_onnx(candidate, model.input_spec) for name, candidate in candidates.items()}


def onnxruntime_call(graph: onnx.ModelProto, frames: np.ndarray[Any, Any], threads: int) -> Callable[[], object]:
    """One run in ONNX Runtime, with the engine's options."""
    options = session_options(onnxruntime)
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"frames": frames})


def openvino_call(graph: onnx.ModelProto, frames: np.ndarray[Any, Any], threads: int) -> Callable[[], object]:
    """One run in OpenVINO, FP32 throughout."""
    core = openvino.Core()
    model = core.read_model(graph.SerializeToString())
    model.reshape(list(frames.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer({"frames": frames})


def torch_calls(model: SimpleNet, frames: np.ndarray[Any, Any]) -> dict[str, Callable[[], object]]:
    """The chain as written and the folded module in PyTorch, eager and compiled."""
    tensor = torch.from_numpy(frames)
    deployed = DeployedSimpleNet(model, choose_forms(model))
    modules = {"as written": model, "folded, chosen": deployed, FLOOR: BareBackbone(deployed, model.input_spec.size_hw)}

    def call(module: Callable[[Tensor], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return module(tensor)

        return run

    calls = {f"{name}, eager": call(module) for name, module in modules.items()}
    return calls | {f"{name}, torch.compile": call(torch.compile(module)) for name, module in modules.items()}


def measure(backbone: str, side: int, rounds: int, threads: int) -> dict[str, Any]:
    """All candidates of one model in all runtimes."""
    model = build_simplenet(backbone, random_weights=True, size_hw=(side, side)).eval()
    frames = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    exported = graphs(model)
    chosen, costs = choose_forms(model), form_costs(model)
    result: dict[str, Any] = {
        "input": [side, side],
        "layers": list(model.config.layers),
        "chosen": chosen,
        "head_macs": {
            "as written": as_written_cost(model).macs,
            **{form: sum(cost.macs for cost in layers) for form, layers in costs.items()},
            "memory": memory_cost(model).macs,
        },
    }
    for runtime, make in (("onnxruntime", onnxruntime_call), ("openvino", openvino_call)):
        calls = {name: make(graph, frames, threads) for name, graph in exported.items()}
        result[runtime] = summary(interleaved_ms(calls, rounds), FLOOR)
    result["torch"] = summary(interleaved_ms(torch_calls(model, frames), max(rounds // 3, 5)), f"{FLOOR}, eager")
    return result


def main() -> None:
    """Measure, print and keep `results/fusion.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--name", default="fusion", help="name of the JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    models = {}
    for backbone in arguments.model:
        models[backbone] = measure(backbone, MODELS[backbone], arguments.rounds, arguments.threads)
        for runtime in ("onnxruntime", "openvino", "torch"):
            print(f"{backbone} {MODELS[backbone]}², {runtime}")
            for name, row in models[backbone][runtime].items():
                print(f"  {name:32} {row['p50_ms']:9.2f} ms  {row['ratio']:.3f} x the bare backbone")
    versions = machine("torch", "onnxruntime", "openvino", "onnx")
    path = write_result(
        arguments.name,
        {"machine": versions, "threads": arguments.threads, "rounds": arguments.rounds, "models": models},
    )
    print(path)


if __name__ == "__main__":
    main()
