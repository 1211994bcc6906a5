"""Scoring of whole archives of pictures, on one machine or on many, through Ray."""
