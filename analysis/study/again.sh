#!/usr/bin/env bash
# Six draws that the study has not used, run once, at its end: again.sh <folder of the study's runs> <another folder>.
#
# They take the rates that the study's two searching draws found, whose runs are copied. How many of the study's decided
# verdicts agree is said by `python -m analysis.statistics.agreement`.
set -eu
study=$1 folder=$2
mkdir -p "$folder"
for config in "$study"/*/config.yaml; do
    run=$(dirname "$config")
    if grep -qE '^  seed: [01]$' "$config" && [ ! -e "$folder/$(basename "$run")" ]; then
        cp -r "$run" "$folder/"
    fi
done
here=(outputs_dir="$folder" hydra/launcher=local launcher.array_parallelism=2 launcher.cpus=1 launcher.wait=true)
both=model=miniature-qwen2,miniature-llama
small=(algorithm.samples=4)

again() {
    python -m experiments.run -m "${here[@]}" "$@" lr=found seed=10,11,12,13,14,15
}

again +study=sizes $both
again +study=supervised $both
again +study=convergence $both
again +paper=figure4 $both "${small[@]}" precision=fp32,bf16 n_tie=3,2
again +paper=figure8 $both "${small[@]}" n_tie=1,all u=1,4,16
again +paper=figure7 $both "${small[@]}" rank=1,2,16,64 u=16
again +paper=figure5 $both "${small[@]}" u=1,32 steps=60
