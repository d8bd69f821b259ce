"""What runs took, how far a sweep is, and how long one will take."""
