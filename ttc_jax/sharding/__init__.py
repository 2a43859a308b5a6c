"""Meshes of devices, and where parameters lie on them."""
