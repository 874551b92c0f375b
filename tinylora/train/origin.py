"""Whether runs that have ended were made with the model, tokenizer and data that are asked for now.

The run key knows a model and its data by their names. So a run that would be shown as done is compared with the files
that lie there now; those of a run that has not ended are compared when it goes on. Needs no PyTorch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tinylora.models.find import MINIATURES, digest, resolve_folder, resolved_commit, tokenizer_digest
from tinylora.records.damage import status_of
from tinylora.records.folder import RunFolder, Status
from tinylora.settings.config import RunConfig
from tinylora.settings.uses import SUMS
from tinylora.tasks import Task, task_of
from tinylora.tasks.sources import TESTS

if TYPE_CHECKING:
    from tinylora.models.form import Form

MODEL, TASK = ("model_digest", "tokenizer_digest"), ("data_digest", "prompt_digest")
FORM = "form_digest"

FIRST_GRADED = 3
"""The recipe with which the problems of `sums` and the miniatures were replaced: older runs are not compared."""

Digests = dict[str, str]


def require_same_origin(
    points: Sequence[RunConfig],
    fetch: bool = True,
    task_of: Callable[[RunConfig], Task] = task_of,
    form_of: Callable[[RunConfig], Form | None] = lambda _: None,
) -> list[str]:
    """Raise UsageError for the first run that has ended and was made with other files; both digests are named.

    Returns sentences on digests that records of earlier versions lack. A model of the hub whose commit is the recorded
    one is not fetched for this. Without `fetch`, models and data of the hub are not compared. `task_of` gives the task
    of a point, if it has been read already. `form_of` gives the form in which it is asked, or None: it takes a
    tokenizer, and is then not compared.
    """
    known: dict[str, Digests] = {}
    absent = Counter[str]()
    for point in points:
        folder = RunFolder(point)
        if status_of(folder) not in (Status.finished, Status.failed):
            continue
        described = folder.described()
        assert described is not None
        recorded = described["provenance"]
        for what, names in _compared(point, recorded, fetch):
            if what not in known:
                known[what] = _of_model(point) if names is MODEL else _of_task(task_of(point))
            folder.require_same(recorded, known[what], [name for name in names if name in recorded])
            absent.update(name for name in names if name not in recorded)
        if (form := form_of(point)) is not None:
            folder.require_same(recorded, {FORM: form.digest}, [FORM] if FORM in recorded else [])
            absent.update([FORM] if FORM not in recorded else [])
    return [f"{count} of {len(points)} runs have ended and do not record {name}" for name, count in absent.items()]


def _compared(point: RunConfig, recorded: dict[str, str], fetch: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is to be compared: a key by which it is known, and its entries in the provenance."""
    from_hub = point.model.path is None and point.model.hub is not None
    replaced = point.recipe < FIRST_GRADED
    shipped = point.model.path is None and (MINIATURES / point.model.name).exists()
    fetched = fetch and recorded.get("model_commit") != resolved_commit(point.model)
    if (fetched or not from_hub) and not (shipped and replaced):
        yield repr((point.model, point.recipe)), MODEL
    read = fetch or point.task.folder is not None or point.task.name not in TESTS
    if read and not (point.task.name == SUMS and replaced):
        yield repr((point.task, point.eval.suites, point.algorithm.name, point.trains)), TASK


def _of_model(point: RunConfig) -> Digests:
    folder = resolve_folder(point.model)
    of_tokenizer = tokenizer_digest(folder, point.recipe, remember=True)
    return {"model_digest": digest(folder, remember=True), "tokenizer_digest": of_tokenizer}


def _of_task(task: Task) -> Digests:
    return {"data_digest": task.data_digest, "prompt_digest": task.prompt_digest}
