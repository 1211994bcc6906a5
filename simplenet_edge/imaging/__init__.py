"""The only place where bytes become images, and where camera images become model frames."""
