#!/usr/bin/env bash
# Six draws that the study has not used, run once, at its end: again.sh <folder of the study's runs> <another folder>.
#
# They take the rates that the study's two searching draws found, whose runs are copied. What was trained of them is in
# again.tar.xz beside this: unpacked into the other folder before, it is not trained anew. How many of the study's decided
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

sweep() {
    python -m experiments.run -m "${here[@]}" "$@" lr=found seed=10,11,12,13,14,15
}

# The sweeps of study.sh on which verdicts rest, as they stand there.
eval "$(grep -E '^(both|small)=' "$(dirname "$0")/study.sh")"
eval "$(grep -E '^sweep \+(study=(sizes|supervised|convergence)|paper=figure[4578]) ' "$(dirname "$0")/study.sh")"
