"""TensorRT and TensorRT for RTX: building plans, storing them, running them."""
