"""SimpleNet Edge: from images of good parts to a verified anomaly detector beside the production line."""

__all__ = ["__version__"]

__version__ = "0.1.0"
