"""From a trained model to one ONNX graph, proven equal, in a bundle."""
