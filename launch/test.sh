#!/usr/bin/env bash
# Makes or reuses .venv with what the tests need, then runs ruff, pyright and pytest.
#
#   bash launch/test.sh [--torch] [arguments of pytest ...]
#
# --torch installs torch and makes the parity tests, which compare with it, mandatory.
# TTC_DATA=DIR names a folder with real data, TTC_SMOLLM2_GGUF=FILE a real model, TTC_TOKENIZERS=DIR
# tokenizers, for the tests that use them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh

extras="test"
arguments=()
for argument in "$@"; do
  if [ "$argument" = --torch ]; then
    extras="test,torch"
    export TTC_REQUIRE_TORCH=1
  else
    arguments+=("$argument")
  fi
done

make_environment "$extras"
for check in "ruff format --check ." "ruff check ." "pyright"; do
  say "$check"
  # shellcheck disable=SC2086 # the words of a check are its arguments
  .venv/bin/python -m $check
done
# A process a core, four at most, for their memory; a file's tests stay together with its fixtures.
exec .venv/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
  --no-loadscope-reorder \
  ${arguments[@]+"${arguments[@]}"}
