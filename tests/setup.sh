#!/bin/sh
# Set smartc up in .venv with the extras of pyproject.toml that are named, such as test,tvm.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
# torch and torchvision are a pair and come first: see constraints.txt.
.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch torchvision
.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$1]"
