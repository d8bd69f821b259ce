"""Speed, load and checks of real pages: `make bench`, `make load`, `make fidelity`."""
