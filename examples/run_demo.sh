#!/bin/sh
# Set smartc up in .venv and compile the demo network for npu-8x8: the main job, end to end.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
.venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
exec .venv/bin/smartc compile examples/fashion_mnist.pt2 --target=npu-8x8 \
    --eval examples/fashion_mnist_test.npz --output build/demo
