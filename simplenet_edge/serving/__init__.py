"""Bundles behind KServe's Open Inference Protocol (v2): a server of our own, and repositories for Triton."""
