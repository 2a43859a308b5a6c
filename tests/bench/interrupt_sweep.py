"""Two strategies of configs/countdown.py:search: a sweep that can be interrupted often."""

from ml_collections import ConfigDict

from configs import countdown

KEPT = ("best_of_n", "beam_4")


def get_config() -> ConfigDict:
    config = countdown.get_config("search")
    for name in [*config.sweep.strategies]:
        if name not in KEPT:
            del config.sweep.strategies[name]
    return config
