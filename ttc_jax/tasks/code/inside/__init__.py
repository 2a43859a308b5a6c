"""What runs inside a sandbox: a model's program in one process, and the tests of it in another.

These files are run by their paths and import nothing but the standard library and each other.
"""
