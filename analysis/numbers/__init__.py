"""From runs to numbers: which runs belong together, means, intervals, comparisons."""
