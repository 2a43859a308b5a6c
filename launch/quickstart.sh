#!/usr/bin/env bash
# Makes .venv, installs ttc_jax and runs its main job with the models that ship with it.
#
#   bash launch/quickstart.sh [--workdir=DIR] [--config.field=value ...]
#
# Needs Python 3.11 to 3.13 with venv; PYTHON=/path/to/python3.12 picks one. Given again, it
# continues where it stopped. Relative paths start at the folder of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh

make_environment ""
exec .venv/bin/ttc run --config=countdown --workdir=runs/quickstart "$@"
