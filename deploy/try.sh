#!/usr/bin/env bash
# Sets up what is missing, then runs everything on this machine: an embedded broker, every role, a simulated person.
# Arguments go to `glucast up`, e.g. --port 8080, --no-simulate, --broker local. Ctrl-C stops all of it.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
bash "$here/setup.sh"
printf '\033[1m==> %s\033[0m\n' "glucast up $*"
exec "$here/../.venv/bin/glucast" up "$@"
