#!/bin/sh
# Make a virtual environment with exactly what a lock file names, and windlass itself, editable.
# Usage: install.sh VENV PYTHON LOCK [LOCK_THAT_HAS_IT_ALL]
# Does nothing, quickly, when that is already so: a stamp in VENV remembers what was installed.
set -eu
umask 022 # whoever may enter the folder may use what is installed
venv=$1 python=$2 lock=$3 superset=${4:-}

suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -z "$python" ]; then
    for python in python3.11 python3.12 python3.13 python3 ''; do
        if [ -n "$python" ] && suits "$python"; then break; fi
    done
fi
if [ -z "$python" ] || ! suits "$python"; then
    echo "install: Python 3.11 or newer is needed${python:+, and $python is not that}: apt-get install python3 python3-venv," \
        "or name one with PYTHON=/path/to/python3" >&2
    exit 1
fi

# The folder's own name is part of it: a virtual environment can't be moved.
stamp() {
    { pwd; echo "$venv"; "$python" -VV; cat "$1" pyproject.toml; } | sha256sum | cut -d ' ' -f 1
}

for wanted in "$lock" $superset; do
    if [ "$(cat "$venv/.stamp-$wanted" 2>/dev/null)" = "$(stamp "$wanted")" ]; then exit 0; fi
done

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "install: $python can't make virtual environments here: apt-get install python3-venv" >&2
    exit 1
fi
echo "install: making $venv with $("$python" -V), as $lock says"
"$python" -m venv --clear "$venv"
pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"
}
pip install --root-user-action=ignore --only-binary=:all: --require-hashes -r "$lock"
pip install --root-user-action=ignore --no-deps --no-build-isolation --editable .
stamp "$lock" > "$venv/.stamp-$lock"
