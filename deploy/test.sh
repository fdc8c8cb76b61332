#!/usr/bin/env bash
# Sets up what is missing, then runs what has to be green. Without arguments: everything.
#   bash deploy/test.sh lint types contracts     only these parts
#   bash deploy/test.sh tests -- -k window       pytest arguments behind --
# Tests on a real Kafka (Java 17) take it from KAFKA_HOME, or from ../shared/kafka; without it they are skipped and say so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash deploy/setup.sh --test

parts=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    lint | types | contracts | tests) parts+=("$1") ;;
    *) echo "unknown part $1; there are: lint types contracts tests" >&2; exit 2 ;;
  esac
  shift
done
[ $# -gt 0 ] && shift
[ ${#parts[@]} -gt 0 ] || parts=(lint types contracts tests)

if [ -z "${KAFKA_HOME:-}" ] && [ -d ../shared/kafka/libs ]; then
  KAFKA_HOME=$(cd ../shared/kafka && pwd)
  export KAFKA_HOME
fi

bin=.venv/bin
failed=()
part() {
  printf '\033[1m==> %s: %s\033[0m\n' "$1" "${*:2}"
  local begin=$SECONDS
  "${@:2}" || failed+=("$1")
  echo "    $1 took $((SECONDS - begin)) s"
}
for name in "${parts[@]}"; do
  case $name in
    lint)
      part lint $bin/ruff format --check .
      part lint $bin/ruff check .
      ;;
    types) part types $bin/mypy ;;
    contracts)
      part contracts $bin/lint-imports --no-logo
      part contracts $bin/glucast schemas check
      ;;
    tests)
      if [ $# -gt 0 ]; then
        part tests $bin/python -m pytest "$@"
      else
        # Many tests wait, for brokers and processes, so two processes share the files of a whole run. A pool of threads
        # in each would be in the other's way.
        export OMP_NUM_THREADS=1
        part tests $bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
      fi
      ;;
  esac
done

if [ ${#failed[@]} -gt 0 ]; then
  printf '\033[1m==> failed: %s\033[0m\n' "${failed[*]}"
  exit 1
fi
printf '\033[1m==> all green: %s\033[0m\n' "${parts[*]}"
