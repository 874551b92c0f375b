#!/usr/bin/env bash
# The study of SmolLM2-135M-Instruct on two cores: smollm2.sh <folder of its runs> <minutes>. When the minutes are over
# it stops with all states saved and exit status 3; the same command goes on. `make smollm2` comes first, and then what
# has been trained already: `python -m experiments.records unpack analysis/study/smollm2.tar.xz <folder>`.
#
# Rates are found on two draws (seeds 0 and 1) and reported on others: eight for GRPO with 13 values, four elsewhere. What
# says most comes first.
set -u
folder=$1 end=$(($(date +%s) + 60 * $2))

run() {
    local left=$(((end - $(date +%s)) / 60))
    [ "$left" -gt 0 ] || exit 3
    python -m experiments.run -m outputs_dir="$folder" +study=smollm2_cpu --minutes "$left" "$@"
    local status=$?
    # A search whose best rate stays at an edge ends with status 1, and the report flags that rate.
    [ $status -le 1 ] || exit $status
}

sweep() {
    local seeds=$1
    shift
    run "$@" lr=search seed=0,1
    run "$@" lr=found seed="$seeds"
}

sweep 2,3,4,5,6,7,8,9 u=13
sweep 2,3,4,5 u=13 algorithm.reward=shuffled,form
sweep 2,3,4,5 u=120
sweep 2,3,4,5 u=1000
sweep 2,3,4,5 u=1 n_tie=all,16
# As many completions as GRPO samples, of which the right ones are demonstrations; and 64 answers, each in a sentence.
sweep 2,3,4,5 algorithm=sft task.demonstrations=sampled u=13,1000
sweep 2,3,4,5 algorithm=sft task.demonstrations=foreign algorithm.prompts=64 u=13,1000
sweep 2,3,4,5 adapter=lora rank=1
sweep 2,3,4,5 adapter=lora_xs rank=1 n_tie=1
sweep 2,3,4,5 algorithm=random_search u=13
run adapter=none rollout.end_bias=-2,-1,0,1,2
