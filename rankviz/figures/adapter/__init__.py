"""Pictures of one trained adapter."""
