"""The acceptance suite on one NVIDIA GPU: `make test-gpu`."""
