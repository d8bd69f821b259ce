"""What runs and sweeps are called, where they are and why they wait, in words."""
