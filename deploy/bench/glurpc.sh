#!/usr/bin/env bash
# GluRPC 0.6.3 as its authors publish it, on loopback, for `glucast bench beside`: in an environment of its own, with keys
# asked for. Its network has random weights, because answers are compared without the values of forecasts.
#   bash deploy/bench/glurpc.sh DIRECTORY [PORT]
# The first time takes minutes and 8 GB. It runs until Ctrl-C. The key is: beside
set -euo pipefail
directory=${1:?say where: bash deploy/bench/glurpc.sh DIRECTORY [PORT]}
home=$(mkdir -p "$directory" && cd "$directory" && pwd)
port=${2:-8499}
weights=gluformer_1samples_500epochs_10heads_32batch_geluactivation_livia_large_weights.pth

[ -x "$home/venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$home/venv"
[ -d "$home"/venv/lib/python3*/site-packages/glurpc ] || "$home/venv/bin/python" -m pip install -q glurpc==0.6.3 "pyarrow<20"
hub=$home/hub/models--Livia-Zaharia--gluformer_models
if ! [ -e "$hub/snapshots/random/$weights" ]; then
  mkdir -p "$hub/snapshots/random" "$hub/refs"
  printf random >"$hub/refs/main"
  "$home/venv/bin/python" - "$hub/snapshots/random/$weights" <<'MADE'
import sys

import torch
from glucobench.lib.gluformer.model import Gluformer

torch.manual_seed(0)
network = Gluformer(
    d_model=512, n_heads=10, d_fcn=1024, r_drop=0.2, activ="gelu", num_enc_layers=2, num_dec_layers=2, distil=True,
    len_seq=96, label_len=32, len_pred=12, num_dynamic_features=6, num_static_features=1,
)
torch.save(network.state_dict(), sys.argv[1])
MADE
fi

run=$home/run
rm -rf "$run" && mkdir -p "$run"
echo beside >"$run/keys"
cd "$run"
exec env NUM_SAMPLES=3 HF_HUB_CACHE="$home/hub" HF_HUB_OFFLINE=1 GLURPC_APP_ROOT="$run" ENABLE_API_KEYS=True \
  GLURPC_API_KEYS_FILE="$run/keys" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" \
  "$home/venv/bin/python" -m uvicorn glurpc.app:app --host 127.0.0.1 --port "$port"
