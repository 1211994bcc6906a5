"""The lean runtime beside the line: sources, the detector, the stream and its sinks. No PyTorch."""
