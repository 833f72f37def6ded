#!/bin/sh
# Starts a program of ours in a container, in its own place: signals reach it.
set -eu
exec "$@"
