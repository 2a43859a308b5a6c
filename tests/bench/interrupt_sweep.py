"""Two strategies of configs/arithmetic.py:search: a sweep that can be interrupted often."""

from ml_collections import ConfigDict

from configs import arithmetic

KEPT = ("best_of_n", "beam_4")


def get_config() -> ConfigDict:
    config = arithmetic.get_config("search")
    for name in [*config.sweep.strategies]:
        if name not in KEPT:
            del config.sweep.strategies[name]
    return config
