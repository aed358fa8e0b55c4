#!/usr/bin/env bash
# Resolves pyproject.toml once (constraints.txt) and writes one hashed lock per extra. torch is left out of the
# hashed files: its build differs by machine, so it is installed by version, constrained by constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { "${UV:-uv}" pip compile pyproject.toml --quiet --python-version 3.11 --no-annotate --no-header "$@"; }
find_links=()
[ -n "${PIP_FIND_LINKS:-}" ] && find_links=(--find-links "$PIP_FIND_LINKS")
compile "${find_links[@]}" --extra dev --extra fuzz --extra build | sed -E 's/^(torch==[0-9.]+).*/\1/' > locks/constraints.txt
lock() {  # name, then its extras
  name=$1; shift; extras=(); for extra in "$@"; do extras+=(--extra "$extra"); done
  compile "${find_links[@]}" "${extras[@]}" -c locks/constraints.txt --generate-hashes --no-emit-package torch > "locks/$name.txt"
}
lock base
lock silo silo
lock appliance appliance
lock demo demo build
lock dev dev build
lock fuzz dev fuzz build
# Readers of the log that others wrote: test tools, in an environment of their own. They ask for a Python that they do
# not need, hence 3.12 here and --ignore-requires-python where they are installed.
"${UV:-uv}" pip compile locks/readers.in --quiet --python-version 3.12 --no-annotate --no-header "${find_links[@]}" \
  -c locks/constraints.txt --generate-hashes > locks/readers.txt
