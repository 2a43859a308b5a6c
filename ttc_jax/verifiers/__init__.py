"""Verifiers: what says how good an answer, or a step of it, is."""
