"""Datasets of image files: layouts, reading, extra frames for training."""
