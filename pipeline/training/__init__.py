"""Train in plain PyTorch: recipe, augmentation, batches and the loop."""
