#!/usr/bin/env bash
# What only a CUDA GPU can show, in parts of under nine minutes each. Nothing is installed and nothing fetched: it runs
# with the torch (2.11 or newer) and Triton (3.6 or newer) that python3 has, and builds the extension in place.
#
#   bash benchmarks/gpu.sh check   [--out DIR] [--dry-run]   every test marked gpu, the same bits twice, sanitizer
#   bash benchmarks/gpu.sh kernels [--out DIR] [--dry-run]   the fused kernels beside torch eager and torch.compile
#   bash benchmarks/gpu.sh tune    [--out DIR] [--dry-run]   the convolutions beside cuDNN; writes the table of choices;
#                                                            the normalisation's tiles
#   bash benchmarks/gpu.sh step    [--out DIR] [--dry-run]   in four minutes: the whole step beside torchvision's, eager,
#                                                            compiled, and compiled in a CUDA graph as ours is; batches
#                                                            of 2 and 8; with the loader; evaluation
#   bash benchmarks/gpu.sh peers   [--out DIR] [--dry-run]   the step beside all others: eager in a CUDA graph, ours
#                                                            compiled, max-autotune, as far as the time goes
#
# The first call builds the extension, which takes some minutes more; what nvcc made is kept in build/cuda.
# Results: DIR, by default benchmarks/results/DATE-GPU. --dry-run: the same road with tiny shapes, without a GPU in
# Triton's interpreter. PYTHON=... chooses another interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

usage() { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; }
fail() { echo "gpu.sh: $1" >&2; exit 2; }

part=${1:-}; shift || true
out=""; dry=""
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --out=*) out=${1#--out=}; shift ;;
    --dry-run) dry=1; shift ;;
    *) fail "$1: expected --out DIR or --dry-run" ;;
  esac
done
case "$part" in
  check | kernels | tune | step | peers) ;;
  -h | --help | "") usage; exit 0 ;;
  *) fail "$part: expected check, kernels, tune, step or peers" ;;
esac

"$PYTHON" -c 'import torch, triton' || fail "$PYTHON has no torch or no Triton; set PYTHON"
gpu=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "")')
if [ -z "$gpu" ]; then
  [ -n "$dry" ] || fail "torch finds no CUDA GPU; --dry-run goes through without one"
  export TRITON_INTERPRET=1
fi
name=$(echo "${gpu:-dry-run}" | tr ' A-Z' '-a-z' | sed 's/^nvidia-//')
out=${out:-benchmarks/results/$(date +%F)-$name}
mkdir -p "$out"
log="$out/$part.log"
export PYTHONUNBUFFERED=1

# The extension, for its CUDA part; the kernels of Triton need none.
if [ -n "$gpu" ]; then
  "$PYTHON" setup.py -q build_ext --inplace >"$out/build.log" 2>&1 || fail "the extension did not build: $out/build.log"
  "$PYTHON" -m deeplab_fast.runtime | tee "$out/runtime.txt"
fi

# A line of check.md and one of check.json: what was run, whether it passed, how long it took.
rows=()
patience=1; [ -z "$dry" ] || patience=10  # a CPU that interprets
run() {
  local what=$1 limit=$2 status=passed start=$SECONDS; shift 2
  echo "== $what" | tee -a "$log"
  timeout "$((limit * patience))" "$@" >>"$log" 2>&1 || status=FAILED
  rows+=("$what|$status|$((SECONDS - start))")
  echo "   $status, $((SECONDS - start)) s" | tee -a "$log"
}
report() {
  printf '%s\n' "${rows[@]}" | "$PYTHON" -m benchmarks.report_checks "$out" "${gpu:-no GPU, interpreted}" "$part"
}

: >"$log"
if [ "$part" = check ]; then
  # What the marker `gpu` says, in pytest's own terms; only those files are collected: others may need packages that are
  # not here.
  mapfile -t tests < <(grep -rl --include='test_*.py' 'pytest\.mark\.gpu' tests | sort)
  one=(-q -x -p no:cacheprovider -m gpu)
  if [ -n "$dry" ]; then
    run "ops against fp64" 300 "$PYTHON" -m pytest "${one[@]}" "${tests[@]}" -k "opcheck or tie"
    run "the same bits twice" 120 "$PYTHON" -m pytest "${one[@]}" "${tests[@]}" -k same_bits
  else
    # Most of the time goes to compiling kernels for many shapes: on several cores where pytest-xdist is there.
    many=(); "$PYTHON" -c 'import xdist' 2>/dev/null && many=(-n 8)
    run "ops against fp64" 300 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu "${many[@]}" "${tests[@]}"
    run "the same bits twice" 60 "$PYTHON" -m pytest "${one[@]}" "${tests[@]}" -k same_bits
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
    if [ -n "$sanitizer" ]; then
      for tool in memcheck racecheck; do
        run "compute-sanitizer $tool" 85 "$sanitizer" --tool "$tool" --error-exitcode 3 --kernel-regex kns=_kernel \
          "$PYTHON" -m pytest "${one[@]}" "${tests[@]}" -k "same_bits or odd or tie"
      done
    else
      rows+=("compute-sanitizer|not found|0")
    fi
  fi
  report
elif [ "$part" = step ] || [ "$part" = peers ]; then
  size=(--batch_size=32 --crop_size=513) one=(--crop_size=513) few=(--batches=2,8 --crops=513)
  beside=ours,ours-recompute,torchvision-eager,torchvision-compile-graph,torchvision-compile
  if [ -n "$dry" ]; then
    size=(--backbone=resnet50 --batch_size=2 --crop_size=33) one=(--backbone=resnet18 --crop_size=33)
    few=(--backbone=resnet50 --batches=2 --crops=33 --rounds=4)
    beside=ours,torchvision-eager
  fi
  step=("$PYTHON" -m benchmarks.run train_step "${size[@]}" --precision=bf16 --out="$out")
  if [ "$part" = step ]; then
    # What is timed by then is kept where the time runs out: the limits add up to four minutes.
    run "step" 125 "${step[@]}" --rounds=20 --minutes=1.6 --implementations="$beside"
    run "batches of 2 and 8" 40 "$PYTHON" -m benchmarks.run scaling "${few[@]}" --precision=bf16 --out="$out"
    run "loader and step" 40 "$PYTHON" -m benchmarks.run loader_step "${size[@]}" --num_workers=8 --steps=20 \
      --out="$out"
    run "evaluation" 35 "$PYTHON" -m benchmarks.run evaluation "${one[@]}" --batch_size=32 --precision=bf16 \
      --num_workers=8 --out="$out"
    cat "$out"/{train_step,scaling,loader_step,evaluation}.md 2>/dev/null || true
  else
    run "step" 530 "${step[@]}" --rounds=30 --minutes=5
    cat "$out"/train_step.md 2>/dev/null || true
  fi
  report
elif [ "$part" = tune ]; then
  timeout 400 "$PYTHON" -m benchmarks.run tune_tiles --out="$out" ${dry:+--dry_run=True} 2>&1 | tee -a "$log"
  [ -n "$dry" ] || timeout 120 "$PYTHON" -m benchmarks.run tune_norm --out="$out" 2>&1 | tee -a "$log"
else
  timeout 530 "$PYTHON" -m benchmarks.run kernels --out="$out" ${dry:+--dry_run=True} 2>&1 | tee -a "$log"
fi
