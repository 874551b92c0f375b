"""The evaluation of the untrained model, measured once for all runs of a machine: remembered in its cache folder.

Every pack begins with it, and v = 0 whatever is trained later. What is remembered is taken where all that it depends on
is the same, these sources and the machine included, so that records are the same bit for bit. The folder can be removed
at any time.
"""

from __future__ import annotations

from tinylora.records.progress import Progress
from tinylora.records.stopping import StopRequest
from tinylora.settings.files import cache_folder
from tinylora.settings.remembered import recall_file, remember_file
from tinylora.train.evaluate import Evaluation, evaluate
from tinylora.train.evaluation_key import key_of
from tinylora.train.found import FoundSuites, from_plain, plain
from tinylora.train.pack import Pack

FOLDER = "untrained"  # below the cache folder of the machine


def evaluate_untrained(pack: Pack, lane: int, progress: Progress, stop: StopRequest | None = None) -> Evaluation | None:
    """The evaluation of a lane before its first step, remembered or measured; None where it fails, as in `evaluate`.

    Raises Stopped where `stop` was asked for.
    """
    path = cache_folder() / FOLDER / f"{key_of(pack)}.json"
    known = pack.engine.ranks.first(lambda: from_plain(recall_file(path)))
    if known is not None:
        progress.phase("the untrained model: evaluated before on this machine, remembered")
        return known
    so_far = FoundSuites(pack, [lane])
    found = evaluate(pack, [lane], progress, stop, so_far).get(lane)
    if found is not None and pack.engine.ranks.leads and not found.unsure:
        remember_file(path, plain(found))
    so_far.forget()
    return found
