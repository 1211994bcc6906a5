"""Is there an NVIDIA GPU that can be used? Asks the driver itself; needs no package and takes nothing on the GPU."""

from __future__ import annotations

import ctypes
import os

from simplenet_edge.errors import EngineUnavailable

__all__ = ["driver_problem", "require_driver"]

_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


def driver_problem() -> str | None:
    """Why no NVIDIA GPU can be used here, in one line; None where one can."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"no NVIDIA driver: {_DRIVER} is not found"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver doesn't start (cuInit gave {status})"
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no GPU"
    return None


def require_driver() -> None:
    """Refuse a machine without a usable GPU. Raises EngineUnavailable."""
    problem = driver_problem()
    if problem is not None:
        raise EngineUnavailable(
            f"{problem}; install the driver (on a Jetson: JetPack 6.2 or later), in a container start it with "
            "--gpus all or --runtime nvidia, or use --engine onnxruntime"
        )
