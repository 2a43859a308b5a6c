"""Verifiers, which score answers and steps of them."""
