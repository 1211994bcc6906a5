"""The HTML report of an evaluation: one self-contained file."""
