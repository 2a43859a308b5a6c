"""How hard questions are, what to spend on them, and whether that beats a larger model."""
