#!/bin/sh
# Renew the lock files (one to install, one for the image, one to develop): names, versions and hashes for every supported Python, no places.
# Usage: lock.sh VENV
set -eu
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$1/bin/python" -m venv "$tools/venv"
"$tools/venv/bin/python" -m pip --disable-pip-version-check -qq install uv

# What builds windlass itself, so that an install needs nothing that is not locked.
printf 'hatchling\neditables\n' > "$tools/build.in"

lock() {
    output=$1
    shift
    {
        echo "# Made by \`make lock\` from pyproject.toml."
        "$tools/venv/bin/uv" --quiet --native-tls pip compile --universal --python-version 3.11 --generate-hashes \
            --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@" pyproject.toml "$tools/build.in"
    } > "$tools/lock"
    if grep -n '://' "$tools/lock" >&2; then
        echo "lock: $output would name a place; see the lines above" >&2
        exit 1
    fi
    cp "$tools/lock" "$output"
}

lock requirements.lock --extra otel --extra embedded
lock requirements-image.lock --extra otel --constraints requirements.lock
lock requirements-dev.lock --extra embedded --group dev --constraints requirements.lock
