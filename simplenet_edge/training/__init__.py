"""Training on images of good parts: features once, the coreset, the two small networks, the threshold."""
