"""The parts of `python -m benchmarks.gpu`, for a machine with PyTorch and Triton and nothing else of this project's."""
