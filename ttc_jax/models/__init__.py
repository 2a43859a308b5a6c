"""Generators: one decoder, configured to the public families, and where its weights come from."""
