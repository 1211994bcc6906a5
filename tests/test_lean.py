"""The runtime works with the lean dependencies alone, and loads nothing else where more is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

import simplenet_edge.archive
import simplenet_edge.benchmark
import simplenet_edge.engines
import simplenet_edge.imaging
import simplenet_edge.runtime
import simplenet_edge.serving
from tests.bundles import even_frames, predict, tiny_graph, with_spot, write_tiny_bundle

HEAVY = ("torch", "torchvision", "onnx", "onnxscript", "safetensors", "sklearn", "scipy", "matplotlib", "tensorboard")

INSPECT = """
import json, sys
sys.modules.update({{name: None for name in {missing}}})
from pathlib import Path
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.sinks import JsonlSink
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.runtime.line.line import run
from simplenet_edge.engines.verify import verify

bundle = Bundle(Path(sys.argv[1]))
with open_engine(bundle, "{engine}") as engine:
    verify(engine, tolerance={tolerance}).require()
    run(open_source(sys.argv[2]), Detector(engine), [JsonlSink(None)])
"""


def run_python(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_inspects_with_everything_heavy_missing(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.zip")
    image = with_spot(even_frames(1))[0]
    assert cv2.imwrite(str(tmp_path / "part.png"), image)
    code = INSPECT.format(missing=HEAVY, engine="onnxruntime", tolerance=None)
    line = json.loads(run_python(code, bundle.path, tmp_path / "part.png"))
    assert line["verdict"] == "NG"
    assert line["score"] == pytest.approx(float(predict(tiny_graph(), image[None]).score[0]))


def modules_of(package: object) -> list[str]:
    folder = Path(next(iter(package.__path__)))  # type: ignore[attr-defined]
    name = package.__name__  # type: ignore[attr-defined]
    files = (file.relative_to(folder).with_suffix("") for file in folder.rglob("*.py") if file.stem != "__init__")
    return sorted(".".join((name, *file.parts)) for file in files)


@pytest.mark.parametrize(
    "package",
    [
        simplenet_edge.engines,
        simplenet_edge.runtime,
        simplenet_edge.serving,
        simplenet_edge.benchmark,
        simplenet_edge.imaging,
        simplenet_edge.archive,
    ],
    ids=lambda p: p.__name__,
)
def test_importing_the_runtime_loads_no_library_of_a_backend(package: object) -> None:
    modules = modules_of(package)
    assert len(modules) > 2
    heavy = (*HEAVY, "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "pycuda", "ray")
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {modules}]; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert run_python(code).strip() == "[]"


def test_without_onnxruntime_the_fake_engine_still_runs(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    assert cv2.imwrite(str(tmp_path / "part.png"), with_spot(even_frames(1))[0])
    code = INSPECT.format(missing=(*HEAVY, "onnxruntime"), engine="fake", tolerance=10)
    assert json.loads(run_python(code, bundle.path, tmp_path / "part.png"))["verdict"] == "NG"


def test_without_onnxruntime_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    code = INSPECT.format(missing=(*HEAVY, "onnxruntime", "openvino"), engine="auto", tolerance=None)
    done = subprocess.run([sys.executable, "-c", code, bundle.path, "."], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "EngineUnavailable: no engine is installed; run: pip install 'simplenet-edge[ort]'" in done.stderr
