"""SimpleNet: the frozen backbone, the patches, the projection and the discriminator, in PyTorch."""
