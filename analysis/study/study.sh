#!/usr/bin/env bash
# The study of docs/study.md: study.sh <folder of its runs>. Interrupted, the same command goes on.
#
# Rates are found on two draws (seeds 0 and 1) and reported on eight others. The sweeps that say most come first. What is
# not named here is in conf/study, or is the paper's preset in small (conf/scale).
set -u
folder=$1
here=(outputs_dir="$folder" hydra/launcher=local launcher.array_parallelism=2 launcher.cpus=1 launcher.wait=true)
both=model=miniature-qwen2,miniature-llama
small=(algorithm.samples=4) # of each prompt, as +study=sizes has: runs of several figures are one run

sweep() {
    # A search whose best rate stays at an edge ends with status 1, and the report flags that rate.
    python -m experiments.run -m "${here[@]}" "$@" lr=search seed=0,1 || [ $? -eq 1 ] || exit 2
    python -m experiments.run -m "${here[@]}" "$@" lr=found seed=2,3,4,5,6,7,8,9 || [ $? -eq 1 ] || exit 2
}

sweep +study=sizes $both
sweep +study=supervised $both
sweep +study=controls $both
sweep +study=explained $both
sweep +paper=figure4 $both "${small[@]}" precision=fp32,bf16 n_tie=3,2
sweep +paper=figure8 $both "${small[@]}" n_tie=1,all u=1,4,16
sweep +paper=figure7 $both "${small[@]}" rank=1,2,16,64 u=16
sweep +study=precision
sweep +study=convergence $both
sweep +paper=figure6 $both "${small[@]}"
sweep +paper=figure5 $both "${small[@]}" u=1,32 steps=60
