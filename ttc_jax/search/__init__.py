"""Strategies that spend a generation budget, and the rules that select the final answer."""
