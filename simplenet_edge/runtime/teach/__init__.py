"""A lesson at the line: good parts that were rejected enter the memory of a bundle, on the device, without PyTorch."""
