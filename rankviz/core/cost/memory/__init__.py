"""The peak of a training step: what it is the largest of, the formulas of its parts, and the loss."""
