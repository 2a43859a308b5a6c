"""Experiments: configs, workdirs, stages, and the loops that fill a results store."""
