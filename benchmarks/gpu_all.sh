#!/usr/bin/env bash
# GPU tests, GPU benchmark rows, then training of `nano` that goes on from what is there: `make gpu-all`.
#
#   OUT=results/gpu  everything that is made; run again with the same folder to go on
#   CLIPS, LIST      training clips and their list, CLIPS_VAL, LIST_VAL those of validation (docs/data.md)
#   WHEELS           folder of wheels to install first, for a machine without a network
#   MINUTES=480      of training; OPTIONS: more options of main.py
#   DRY_RUN=1        the same on a CPU, in small, with the clips of data_test
#
# OUT/pieces has the weights, the tests' and the benchmarks' results in files of at most 16 MB. A folder with nothing but
# these pieces goes on from their weights; training's own states, OUT/run/state, go on exactly.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python} OUT=${OUT:-results/gpu} MINUTES=${MINUTES:-480}
CLIPS=${CLIPS:-data_test/clips} LIST=${LIST:-$CLIPS/datalist.txt}
CLIPS_VAL=${CLIPS_VAL:-data_test/clips} LIST_VAL=${LIST_VAL:-$CLIPS_VAL/datalist.txt}
start=pretrained/nano_recon.safetensors
mkdir -p "$OUT/pieces"
[ -z "${WHEELS:-}" ] || "$PYTHON" -m pip install --no-index --no-deps "$WHEELS"/*.whl

tests=(-m gpu) bench=() train=(--renderer gsplat --mixed_precision bf16)
if [ -n "${DRY_RUN:-}" ]; then
  tests+=(--collect-only) bench=(--tiny --rounds 1 --rows forward views)
  train=(--device cpu --renderer numba --mixed_precision no --max_steps 2 --num_frames 2 --batch_size 1 --num_workers 0
    --lambda_lpips 0 --no-eval_lpips --preview_every 0 --tracker none)
fi

# A failed part is reported at the end and does not stop the others.
failed=()
"$PYTHON" -m pytest "${tests[@]}" >"$OUT/tests.log" 2>&1 || failed+=("tests: $OUT/tests.log")
"$PYTHON" -m benchmarks --gpu --output "$OUT/bench.json" "${bench[@]}" >"$OUT/bench.log" 2>&1 ||
  failed+=("benchmarks: $OUT/bench.log")

if compgen -G "$OUT/run/state/*" >/dev/null; then
  start=auto
elif compgen -G "$OUT/pieces/gpu.tar.*" >/dev/null; then
  cat "$OUT"/pieces/gpu.tar.* | tar x -C "$OUT" run/model.safetensors
  mv "$OUT/run/model.safetensors" "$OUT/start.safetensors"
  start=$OUT/start.safetensors
fi
# SIGTERM saves.
timeout --preserve-status -s TERM "${MINUTES}m" "$PYTHON" main.py nano --workspace "$OUT/run" --resume "$start" \
  --datalist "$LIST" --data_home "$CLIPS" --datalist_val "$LIST_VAL" --data_home_val "$CLIPS_VAL" "${train[@]}" \
  ${OPTIONS:-} >>"$OUT/train.log" 2>&1 || failed+=("training: $OUT/train.log")

rm -f "$OUT"/pieces/gpu.tar.*
(cd "$OUT" && tar c tests.log bench.log train.log $(ls -d bench.json run/model.safetensors run/log.jsonl 2>/dev/null)) |
  split -b 16000000 -d - "$OUT/pieces/gpu.tar."
printf 'FAILED: %s\n' "${failed[@]}" | grep -v ': $' || true
ls -l "$OUT/pieces"
[ ${#failed[@]} -eq 0 ]
