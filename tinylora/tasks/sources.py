r"""The data sets: where each is on the Hugging Face hub, and which of its columns are question, answer and solution.

In a folder a set is one file, `<name>.jsonl` or `<name>.jsonl.gz`, of rows with `question`, `answer` and, where the
source has them, `id` and `solution`. On the hub the columns have other names; what a mapping rests on stands beside
it. None of them was tried against the hub itself, so a column that is not there is an error, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One data set on the hub. Columns may be paths into nested ones, `extra_info.answer`."""

    repository: str
    split: str
    question: str
    answer: str | None
    r"""None: the answer is in the last \boxed of the solution."""
    solution: str | None = None
    id: str | None = None
    """None: `<set>/<place>`, as in the folder."""
    config: str | None = None
    file: str | None = None
    """The one file of the repository that is the set, where it has no configs."""
    broken: frozenset[str] = frozenset()
    """Ids of training rows whose answer was lost on the way into the set; mostly it is empty or `None` there."""
    rounded: bool = False
    """Whether its decimal answers are measured or rounded: a near number counts (`tinylora.answers.quantities`)."""
    few: bool = False
    """Whether it is so small that one sample per problem says little."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that must be there."""
        named = (self.question, self.answer, self.solution, self.id)
        return tuple(dict.fromkeys(name.partition(".")[0] for name in named if name is not None))


SOURCES: dict[str, Source] = {
    # The release by its authors; config, splits and columns as in the loaders of NeMo-RL and of many others.
    "gsm8k-train": Source("openai/gsm8k", "train", "question", "answer", config="main"),
    "gsm8k-test": Source("openai/gsm8k", "test", "question", "answer", config="main"),
    # The MATH training set after the original was taken down; columns problem, level, solution, type as in the cards
    # of its copies. It has no file names, so that ids, and with them the validation part, are not those of a folder.
    "math-train": Source(
        "DigitalLearningGmbH/MATH-lighteval",
        "train",
        "problem",
        None,
        solution="solution",
        broken=frozenset({"train/number_theory/7115.json", "train/number_theory/7117.json"}),
    ),
    # By SimpleRL's authors, whose README names this file; columns as read by others' loaders (extra_info.question,
    # extra_info.answer), one of which counts 8523 rows and finds some without an answer.
    "simplerl-math-level3to5": Source(
        "hkust-nlp/SimpleRL-Zoo-Data",
        "train",
        "extra_info.question",
        "extra_info.answer",
        file="simplelr_qwen_level3to5/train.parquet",
        broken=frozenset(f"simplerl-math-level3to5/{place}" for place in (3380, 5054, 5158, 7997)),
    ),
    # Columns as in the cards of its copies.
    "math500": Source("HuggingFaceH4/MATH-500", "test", "problem", "answer", id="unique_id"),
    # Copies of SimpleRL's files, which the paper's numbers are about; columns as in five evaluations that load both.
    # OlympiadBench has a list of answers with one entry. Elsewhere on the hub it has 674 rows rather than 675.
    "minerva_math": Source("zwhe99/simplerl-minerva-math", "test", "problem", "answer", rounded=True),
    "olympiadbench": Source("zwhe99/simplerl-OlympiadBench", "test", "question", "final_answer"),
    # Columns as in rLLM's loader; the split is called `train`, though it is the whole of AIME 2024.
    "aime24": Source("HuggingFaceH4/aime_2024", "train", "problem", "answer", few=True),
    # Columns as in several evaluations; the answers are numbers there, not texts.
    "amc23": Source("math-ai/amc23", "test", "question", "answer", few=True),
    # By the authors of MARIO; split and columns as described in an evaluation that loads it (385 rows).
    "gaokao2023en": Source("MARIO-Math-Reasoning/Gaokao2023-Math-En", "train", "question", "answer"),
    # Columns and 2818 rows as in two evaluations that load it.
    "college_math": Source("realtreetune/college_math", "test", "problem", "answer"),
}

SUITES: dict[str, str] = {
    "gsm8k": "gsm8k-test",
    **{
        name: name
        for name in (
            "math500",
            "minerva_math",
            "olympiadbench",
            "aime24",
            "amc23",
            "gaokao2023en",
            "college_math",
        )
    },
}
"""What `eval.suites` may name, and the data set that each stands for."""

TRAINING: dict[str, tuple[str, ...]] = {
    "gsm8k": ("gsm8k-train",),
    "math": ("simplerl-math-level3to5", "math-train"),
}
"""The sets that a task can be trained on, the usual one first; the other tasks only evaluate."""

TESTS: dict[str, str] = SUITES | {"math": "math500"}
"""The tasks that ask questions of data sets, and the set that each is tested on."""
