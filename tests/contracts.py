"""Runs searches and a training step with the annotations of array shapes checked at run time.

It is a program of its own, since what it checks must not have been imported before:

    python -m tests.contracts FOLDER
"""

import sys
from pathlib import Path

from jaxtyping import install_import_hook

from tests.contract_check import UNCHECKED

# Where arrays have shapes; elsewhere annotations are pyright's.
ROOMS = ("compute", "models", "sampling", "search", "sharding", "training", "verifiers")

with install_import_hook([f"ttc_jax.{room}" for room in ROOMS], "tests.contract_check.check"):
    from tests.contract_cases import CASES

if __name__ == "__main__":
    for name, case in CASES.items():
        case(Path(sys.argv[1]))
        print(name, flush=True)
    print("unchecked:", *UNCHECKED)
