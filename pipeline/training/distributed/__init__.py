"""Training on Ray: the pairs through Ray Data, the plain loop in the workers of a TorchTrainer."""
