"""The files that run in sandboxes: a model's program in one process, its tests in another.

These files are run by their paths and import nothing but the standard library and each other.
"""
