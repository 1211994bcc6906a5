"""Drawn parts and drawn defects, for the demo, for validation and for tests."""
