"""The paper's tables, figures and claims: what it published, and the same from our runs.

`items` declares every table and figure: its runs and the function that makes it; what people read of it is in
`items.yaml`. Those functions are in `by_size` (Figures 1, 2, 4, 6), `smallest_update` (3), `training_curves` (5),
`by_setting` (7, 8, 9), `six_benchmarks` (Table 2), `ratios` (Qwen and Llama, RL and SFT) and `plain_sweeps` (whatever
no other item shows); `figure_points` is what they share. `parameter_counts` (Table 1) needs no runs. `published` reads
the paper's values (`paper_results.csv`), `conf_files` the points of its presets; `missing` says which of those have not
been run. `claims` declares what the paper says, `effects` measures it (`effect` is what comes out), `verdicts` judges.
The room may import `analysis.options` and the rooms `drawing`, `statistics` and `records`. A newcomer reads `items`
first.
"""

import analysis.drawing  # noqa: F401 - it imports Matplotlib, as nothing may before it
