"""Semantic segmentation of whole buckets of images: DeepLab networks, dense CRF refinement, Ray.

Import the part you need: `pipeline.models.load`, `pipeline.refine.crf.DenseCRF`, `pipeline.masks.read`.
"""
