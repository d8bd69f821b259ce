"""What a visitor may see and change, and how much of it at once."""
