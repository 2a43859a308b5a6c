#!/usr/bin/env bash
# Makes or reuses .venv with what the pages need, and builds docs/ into site/; warnings are errors.
#
#   bash launch/docs.sh
#
# site/index.html is the first page. `.venv/bin/mkdocs serve -f launch/mkdocs.yml` shows the pages
# while they are written.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
. launch/environment.sh

make_environment "docs"
export NO_MKDOCS_2_WARNING=1  # the theme's notice of another program
exec .venv/bin/mkdocs build --strict --quiet --config-file launch/mkdocs.yml
