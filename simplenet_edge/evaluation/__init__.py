"""What a model is worth on labelled images: figures, verdicts, and an HTML report."""
