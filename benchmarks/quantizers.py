"""This project's quantiser beside those of NNCF, Model Optimizer and ONNX Runtime, in the form that TensorRT takes.

    python -m venv quantizers-env
    quantizers-env/bin/pip install nncf==3.4.0 nvidia-modelopt==0.47.0 lief cppimport onnxslim onnxconverter-common \\
        onnx-graphsurgeon -e '.[export]'
    quantizers-env/bin/python benchmarks/quantizers.py --shared FOLDER --work FOLDER

Each quantises the backbone of a float training of `int8.py` (`--work` may be the same) after training, from the same 32
training images: signed, symmetric, one scale per channel for weights and one per tensor for activations, in front of
convolutions. `equalised` says that the backbone's channels were first equalised in float, as this project does.

`error` is the root mean square difference from the float layers' outputs, in standard deviations of each channel, on 32
good images of the calibration split. Accuracy is that of the float head on the quantised backbone, so that nothing but
the quantiser differs. `convolutions` counts those that compute in INT8 in TensorRT's form, `megabytes` what a quantiser
installs beside what training needs anyway. One that is not installed is left out. Nothing is chosen on test images. A
row for each set, seed and quantiser goes into `results/quantizers.json`.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from datasets_figures import accuracy
from onnx import numpy_helper
from runs import Rows, chosen_sets, parser, spread, table, trained, training_options
from torch import Tensor, nn

from simplenet_edge.data.reading import batched, read_frames
from simplenet_edge.data.samples import Sample
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.export.graph_editing import cpu_session
from simplenet_edge.export.precision.int8 import with_int8_weights
from simplenet_edge.export.to_onnx import OPSET
from simplenet_edge.model import quantization
from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.simplenet import SimpleNet

IMAGES, BATCH = 32, 8
INPUT = "images"
FIGURES = {"error": "error", "image_auroc": "image AUROC", "aupro": "AUPRO"}
Batches = list[npt.NDArray[np.float32]]
Quantize = Callable[[Backbone, Batches], onnx.ModelProto]


def ours(backbone: Backbone, batches: Batches) -> onnx.ModelProto:
    """This project's `quantized`."""
    body = quantization.quantized(backbone.body, lambda: map(torch.from_numpy, batches))
    return with_int8_weights(graph_of(with_body(backbone, body)))


def onnx_runtime(backbone: Backbone, batches: Batches) -> onnx.ModelProto:
    """ONNX Runtime's static quantisation, ranges from the smallest and largest value."""
    from onnxruntime import quantization as ort

    feeds = iter([{INPUT: batch} for batch in batches])
    no_outputs = {"OpTypesToExcludeOutputQuantization": ["Conv"]}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "quantized.onnx"
        ort.quantize_static(
            graph_of(backbone),
            made,
            SimpleNamespace(get_next=lambda: next(feeds, None)),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=ort.QuantType.QInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=ort.CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False, **no_outputs},
        )
        return onnx.load(made)


def nncf(backbone: Backbone, batches: Batches, signed: bool = True) -> onnx.ModelProto:
    """NNCF for processors, with its better bias correction; `signed` overrules its choice where nothing is negative."""
    import nncf
    from nncf.common.hardware.qspaces import q8_a, q8_a_ch
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.quantization import advanced_parameters as advanced

    for space in (q8_a, q8_a_ch):
        object.__setattr__(space, "signedness_to_force", signed or None)
    values = advanced.QuantizationParameters(mode=QuantizationScheme.SYMMETRIC, per_channel=False)
    return nncf.quantize(
        graph_of(backbone),
        nncf.Dataset(batches, lambda batch: {INPUT: batch}),
        target_device=nncf.TargetDevice.CPU,
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(types=["Add"], validate=False),
        advanced_parameters=advanced.AdvancedQuantizationParameters(
            overflow_fix=advanced.OverflowFix.DISABLE, activations_quantization_params=values
        ),
    )


def modelopt(backbone: Backbone, batches: Batches) -> onnx.ModelProto:
    """Model Optimizer's quantisation of ONNX graphs, ranges by entropy as is its default.

    In a process of its own: it changes ONNX Runtime's quantiser for all that comes after.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, images, made = (Path(folder) / name for name in ("float.onnx", "images.npz", "quantized.onnx"))
        onnx.save(graph_of(backbone), source)
        np.savez(images, allow_pickle=False, **{INPUT: np.concatenate(batches)})
        options = f"--onnx_path={source} --calibration_data_path={images} --output_path={made} --calibration_eps cpu"
        options += " --op_types_to_quantize Conv --high_precision_dtype=fp32"
        subprocess.run([sys.executable, "-m", "modelopt.onnx.quantization", *options.split()], check=True)
        return onnx.load(made)


NNCF = ("nncf", "ninja", "psutil", "pydot", "tabulate")
MODELOPT = ("nvidia-modelopt", "ninja", "nvidia-ml-py", "omegaconf", "pulp", "regex", "lief", "cppimport", "onnxslim")
QUANTIZERS: Mapping[str, tuple[Quantize, tuple[str, ...]]] = {
    "ours": (ours, ()),
    "onnxruntime": (onnx_runtime, ()),
    "nncf": (nncf, NNCF),
    "nncf, unsigned": (functools.partial(nncf, signed=False), NNCF),
    "modelopt": (modelopt, (*MODELOPT, "onnx-graphsurgeon", "onnxconverter-common")),
}
"""With the packages that each installs beside what training has anyway, the first by its name."""


class GraphBody(nn.Module):
    """A graph of a backbone as its body, computed by ONNX Runtime as it stands."""

    def __init__(self, graph: onnx.ModelProto, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        self.session = cpu_session(graph)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The layers' outputs by name."""
        features = self.session.run(list(self.layers), {INPUT: images.numpy()})
        return dict(zip(self.layers, map(torch.from_numpy, features), strict=True))


def main() -> None:
    """Measure and write row by row."""
    options = parser(__doc__, "quantizers", seeds=1, sets=("tiles", "solar")).parse_args()
    there = {name: entry for name, entry in QUANTIZERS.items() if has(entry[1])}
    if missing := QUANTIZERS.keys() - there:
        print(f"left out, since packages that they need are not installed: {', '.join(sorted(missing))}")
    rows = Rows(options, "int8", ("torch", "onnx", "onnxruntime", *{p[0] for _, p in there.values() if p}))
    for (name, images), seed in itertools.product(chosen_sets(options), range(options.seeds)):
        folder = rows.folder / f"{name}-{seed}"
        run = trained(images.dataset.train, folder, training_options(options.options, images), seed)
        model, layers = run.model, run.model.config.layers
        batches, held_out = (read_batches(model, run.images(split)) for split in ("train", "calibration"))
        plain = with_body(model.backbone, quantization._with_biases(model.backbone.body))
        equalised = copy.deepcopy(plain)
        with torch.no_grad():
            quantization._equalize(equalised.body, functools.partial(map, torch.from_numpy, batches))
        exact = outputs(plain, held_out)
        for (quantizer, (quantize, packages)), even in itertools.product(there.items(), (False, True)):
            key = {"set": name, "seed": seed, "quantizer": quantizer, "equalised": even}
            if rows.has(**key) or (quantizer == "ours" and not even):
                continue
            graph = quantize(equalised if even and quantizer != "ours" else plain, batches)
            rounded = copy.deepcopy(model)
            rounded.backbone = with_body(model.backbone, GraphBody(graph, layers))
            rows.add(
                **key,
                error=error(outputs(rounded.backbone, held_out), exact),
                convolutions=convolutions(graph),
                **accuracy(evaluate(rounded, images.dataset.test, model.input_spec, run.operating_point)),
                megabytes=sum(map(megabytes, packages)),
            )
    print(summary(rows.rows))


def read_batches(model: SimpleNet, samples: Sequence[Sample]) -> Batches:
    """Normalised images float32 `(B, 3, H, W)`, at most 32, evenly spread."""
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, IMAGES).round().astype(int))]
    frames = (read.frame for read in read_frames(chosen, model.input_spec))
    return [model.normalize(torch.from_numpy(np.stack(batch))).numpy() for batch in batched(frames, BATCH)]


def with_body(backbone: Backbone, body: nn.Module) -> Backbone:
    """The backbone with another body."""
    other = copy.deepcopy(backbone)
    other.body = body
    return other


def graph_of(backbone: Backbone) -> onnx.ModelProto:
    """The backbone's graph: normalised images in, a feature map per layer out."""
    program = torch.onnx.export(
        backbone,
        (torch.zeros(2, 3, 256, 256),),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(backbone.layers),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    return program.model_proto


@torch.inference_mode()
def outputs(backbone: Backbone, batches: Batches) -> list[Tensor]:
    """The outputs of each layer for all images, `(C, N)`."""
    parts = [[feature.transpose(0, 1).flatten(1) for feature in backbone(torch.from_numpy(x))] for x in batches]
    return [torch.cat(layer, dim=1) for layer in zip(*parts, strict=True)]


def error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Root mean square over the channels of all layers of their error, each in its own standard deviations."""
    squares = [(a - b).square().mean(dim=1) / b.var(dim=1) for a, b in zip(found, exact, strict=True)]
    return float(torch.cat(squares).mean().sqrt())


def convolutions(graph: onnx.ModelProto) -> int:
    """How many of them compute in INT8 as TensorRT takes it: signed, symmetric, one scale for what they read."""
    nodes = graph.graph.node
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    kept = [node for node in nodes if node.op_type == "Constant"]
    constants |= {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in kept}
    rounded = {}  # by tensor, whether it has one scale
    for node in nodes:
        if node.op_type == "DequantizeLinear":
            scale, zero = (constants[name] for name in node.input[1:])
            if zero.dtype == np.int8 and not zero.any():
                rounded[node.output[0]] = scale.ndim == 0
    pairs = [node.input[:2] for node in nodes if node.op_type == "Conv"]
    return sum(rounded.get(read, False) and not rounded.get(weight, True) for read, weight in pairs)


def has(packages: Sequence[str]) -> bool:
    """Whether all of them are installed."""
    try:
        return all(map(importlib.metadata.distribution, packages))
    except importlib.metadata.PackageNotFoundError:
        return False


def megabytes(package: str) -> float:
    """What an installed package takes on the disk."""
    return sum(Path(file.locate()).stat().st_size for file in importlib.metadata.files(package) or []) / 1e6


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each quantiser, mean and deviation over the seeds of each set, as a Markdown table."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    lines = []
    for way in dict.fromkeys((row["quantizer"], row["equalised"]) for row in rows):
        own = [row for row in rows if (row["quantizer"], row["equalised"]) == way]
        cells = [spread([row[key] for row in own if row["set"] == name]) for name in sets for key in FIGURES]
        lines.append((way[0], "yes" if way[1] else "no", *cells, own[0]["convolutions"], round(own[0]["megabytes"])))
    head = [f"{name}: {title}" for name in sets for title in FIGURES.values()]
    return table(("quantiser", "equalised", *head, "convolutions", "MB"), lines)


if __name__ == "__main__":
    main()
