#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment, and uses it from an empty folder: the
# command, and the first Python example of the README.
#
#   bash launch/wheel.sh [PYTHON ...]
#
# PYTHON are the interpreters to try it with, such as python3.11 python3.13; by default the one that
# the other scripts find.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
pythons=("$@")
if [ ${#pythons[@]} = 0 ]; then pythons=("$(find_python)"); fi
"${pythons[0]}" -m pip wheel -qq --disable-pip-version-check --no-deps -w "$scratch" .
awk '/^```python/ {inside = 1; next} /^```/ {if (inside) exit} inside' README.md >"$scratch/example.py"

for python in "${pythons[@]}"; do
  fits "$python" || die "$python is not a Python 3.11 to 3.13 with venv"
  say "Wheel with Python $(version "$python") ..."
  began=$SECONDS
  rm -rf "$scratch/venv" "$scratch/empty"
  "$python" -m venv "$scratch/venv"
  "$scratch/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile \
    "$scratch"/*.whl
  say "  installed in $((SECONDS - began)) s"
  mkdir "$scratch/empty"
  (
    cd "$scratch/empty"
    ttc="$scratch/venv/bin/ttc"
    export JAX_COMPILATION_CACHE_DIR="$scratch/empty/xla"
    "$ttc" --version
    "$ttc" run --config=countdown:beam --workdir=beam --config.limit=3 2>/dev/null
    echo "03 08 12 25=61:" | "$ttc" solve --config=countdown:solve 2>/dev/null
    "$scratch/venv/bin/python" "$scratch/example.py"
  )
  say "  done in $((SECONDS - began)) s"
done
