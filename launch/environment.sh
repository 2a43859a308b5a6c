# shellcheck shell=bash
# Sourced by the other scripts: finds a Python, and makes or reuses .venv in the current folder.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 2
}

# Whether a command is a Python 3.11 to 3.13 that can make environments.
fits() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

version() { "$1" -c 'import platform; print(platform.python_version())'; }

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 to 3.13 with venv"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3; do
    if fits "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "no Python 3.11 to 3.13 with venv found: install one (on Debian python3-venv too)," \
    "or name it: PYTHON=/path/to/python3.12"
}

# Whether .venv works and is of the Python that PYTHON asks for, if it does.
venv_fits() {
  fits .venv/bin/python || return 1
  [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version .venv/bin/python)" ]
}

# make_environment [EXTRAS]: .venv with this package and its extras, such as "test,torch".
# A stamp holds the folder and the pyproject.toml of the last installation; while both are the same
# and its extras begin with those asked for, there is nothing to do.
make_environment() {
  local extras="${1:-}" python stamp wanted began=$SECONDS
  if [ -n "${PYTHON:-}" ]; then find_python >/dev/null; fi
  wanted="$PWD"$'\n'"$(cat pyproject.toml)"
  if venv_fits; then
    for stamp in .venv/installed-"$extras"*; do
      if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    done
  fi
  if ! venv_fits || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    say "Making .venv with Python $(version "$python") ..."
    "$python" -m venv --clear .venv
    say "  done in $((SECONDS - began)) s"
    began=$SECONDS
  fi
  say "Installing ttc_jax${extras:+ [$extras]} into .venv (1 to 2 minutes, about 1 GB) ..."
  rm -f .venv/installed-*
  .venv/bin/python -m pip install -qq --disable-pip-version-check \
    --editable ".${extras:+[$extras]}" || die "the installation failed, see above"
  printf '%s\n' "$wanted" >".venv/installed-$extras"
  say "  done in $((SECONDS - began)) s"
}
