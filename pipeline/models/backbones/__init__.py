"""Atrous backbones."""
