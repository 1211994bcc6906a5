"""Has the camera, the light or the parts changed? Bands of what is normal, and a sequential test."""
