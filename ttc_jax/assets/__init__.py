"""The checkpoints that ship with the package, for the embedded task Countdown.

Each folder's model.json holds the command that made it, its seed, training tokens and figures.
"""

from pathlib import Path

from ttc_jax.errors import UserError

PREFIX = "embedded:"


def locate(path: str) -> str:
    """Turns "embedded:generator" into the folder of that checkpoint; other paths stay as they are.

    Raises:
      UserError: no checkpoint of that name ships with the package.
    """
    if not path.startswith(PREFIX):
        return path
    here = Path(__file__).parent
    folder = here / path.removeprefix(PREFIX)
    if not folder.is_dir():
        names = sorted(
            PREFIX + child.name for child in here.iterdir() if (child / "model.json").is_file()
        )
        raise UserError(
            f"{path}: no such checkpoint ships with ttc_jax; there are {', '.join(names)}"
        )
    return str(folder)
