"""The line: cameras in, one engine, results out, each stage in a thread of its own."""
