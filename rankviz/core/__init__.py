"""What is true: pure functions on frozen data, standard library only."""
