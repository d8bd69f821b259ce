"""What several tests need, by what it stands in for or makes."""
