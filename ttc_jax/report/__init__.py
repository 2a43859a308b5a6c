"""Figures and tables from summary.json alone."""
