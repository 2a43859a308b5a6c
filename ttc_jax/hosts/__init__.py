"""Runs of several processes: who takes part, and what they tell each other."""
