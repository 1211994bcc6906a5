"""FP16 and INT8 graphs with their evidence: made, calibrated, searched, tested against FP32."""
