#!/bin/sh
# Set smartc up with its test tools in .venv and run the tests; arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
sh tests/setup.sh test,tvm
# A thread per worker: the machines that run this have few cores.
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest --numprocesses="${SMARTC_TEST_WORKERS:-2}" "$@"
