"""FLOPs told token by token and matrix by matrix."""

from ttc_jax.models.config import ModelConfig
from ttc_jax.verifiers.prm_config import PRMConfig


def product(rows: int, inner: int, columns: int) -> int:
    """Of an [rows, inner] with an [inner, columns] matrix: a multiplication and a sum a term."""
    return 2 * rows * inner * columns


def layers_token(config: ModelConfig, position: int) -> int:
    """One token through all blocks, with the keys of those before it in a cache."""
    D, F, h = config.width, config.ffn_width, config.head_size
    total = 0
    for window in config.windows:
        keys = len([key for key in range(position + 1) if not window or position - key < window])
        for _ in range(config.heads):
            total += product(1, D, h)  # query
            total += product(1, h, keys) + product(1, keys, h)  # scores, and their mix of values
            total += product(1, h, D)  # output
        total += 2 * config.kv_heads * product(1, D, h)  # key and value
        total += 2 * product(1, D, F) + product(1, F, D)  # gate, up, down
    return total


def generator_token(config: ModelConfig, position: int, scored: bool) -> int:
    """One token, with or without scores over the vocabulary."""
    head = product(1, config.width, config.vocab_size) if scored else 0
    return layers_token(config, position) + head


def prm_token(config: PRMConfig, position: int) -> int:
    """One token through the trunk, its prediction, the way into the layers, and the layers."""
    if config.layers is None:
        return generator_token(config.trunk, position, scored=False)
    enter = product(1, config.trunk.width + 3, config.layers.width)
    trunk = generator_token(config.trunk, position, scored=True)
    return trunk + enter + layers_token(config.layers, position)
