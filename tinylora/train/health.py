"""What becomes of an update in the arithmetic of the model: checks on the first answers of an evaluation.

    eval/merge_kl           KL between merged weights and adapter form (the paper samples from one, trains the other)
    eval/health/cosine      how well the change of the logits that the model computes in model.dtype agrees with the one
    eval/health/norm_ratio  of the same weights and the same update in fp32: cosine of the two, and ratio of their norms

A small update is lost in the rounding of a 16-bit model: the cosine is then near 0. The two are left out where they say
nothing: at v = 0, and for models in fp32, where they are 1 up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tinylora.engine.memory import budget_of
from tinylora.engine.rows import Completions, Row, completion_logits, lay_out, micro_batches
from tinylora.models.load import parameter_count
from tinylora.records.progress import Progress
from tinylora.settings.config import Precision
from tinylora.train.pack import Metrics, Pack

CHECKED_ITEMS = 16  # problems of the first suite whose greedy completions are read
CHECKED_TOKENS = 1024  # at once: whole distributions are compared, in double precision
WIDE_BYTES = 4  # per parameter of a copy in fp32


def check(pack: Pack, lanes: Sequence[int], answers: Completions, progress: Progress) -> list[Metrics]:
    """The metrics above of each lane, from its first answers; they stand lane by lane. The ranks share the lanes."""
    prompts, config = len(answers.prompts) // len(lanes), pack.config
    rounds = config.trains and config.model.dtype is not Precision.fp32
    if rounds and not _fits(pack):
        progress.phase("eval/health is left out: a copy of the model in fp32 takes more than pack.memory_gib")
        rounds = False

    def measure(places: Sequence[int]) -> list[Metrics]:
        wide, found = _wide(pack) if rounds and places else {}, []
        for place in places:
            read = range(place * prompts, place * prompts + min(CHECKED_ITEMS, prompts))
            of_lane: Metrics = {}
            if config.adapter.name.packs:  # else there is nothing to merge
                of_lane["eval/merge_kl"] = merge_kl(pack, lanes[place], answers, read)
            found.append(of_lane | (realised(pack, lanes[place], answers, read, wide) if rounds else {}))
        return found

    return pack.engine.ranks.share(range(len(lanes)), measure)


@torch.inference_mode()
def merge_kl(pack: Pack, lane: int, answers: Completions, prompts: Sequence[int]) -> float:
    """KL(merged || adapter form), nats per token of a lane's answers to some `prompts`.

    The paper's rollouts come from merged weights, its gradients from the adapter form (section 4).
    """
    merged, total = pack.engine.adapters.merged_weights(lane), 0.0
    for batch in _batches(pack, answers, prompts):
        merged_logits, places = completion_logits(pack.engine.model, answers, batch, merged)
        adapter_logits = _of_lane(pack, lane, answers, batch)
        of_merged, of_adapter = (x.double().log_softmax(-1) for x in (merged_logits, adapter_logits))
        total += float((of_merged.exp() * (of_merged - of_adapter)).sum(-1)[places].sum())
    mean = total / sum(len(answers.tokens[prompt]) for prompt in prompts)
    return 0.0 if mean < 0 else mean  # NaN stays NaN


@torch.inference_mode()
def realised(
    pack: Pack, lane: int, answers: Completions, prompts: Sequence[int], wide: dict[str, torch.Tensor]
) -> Metrics:
    """`eval/health/*` of a lane on its answers to some `prompts`, over all logits together.

    `wide` has the untrained model's tensors in fp32, by name: they are changed in place, and put back. Where nothing
    of a change is left the cosine is 0.
    """
    product = ours = theirs = 0.0
    for batch in _batches(pack, answers, prompts):
        with pack.engine.adapters.base() as untrained:
            before = completion_logits(pack.engine.model, answers, batch, untrained)[0].float()
            intended = -completion_logits(pack.engine.model, answers, batch, wide)[0]
            for name, update in pack.engine.adapters.updates(lane):
                wide[name] += update
            intended += completion_logits(pack.engine.model, answers, batch, wide)[0]
            base = _tensors(pack, untrained)
            for name, _ in pack.engine.adapters.updates(lane):
                wide[name].copy_(base[name])
        change = _of_lane(pack, lane, answers, batch).float() - before
        product += float((change * intended).sum(dtype=torch.float64))
        ours += float(change.square().sum(dtype=torch.float64))
        theirs += float(intended.square().sum(dtype=torch.float64))
    if theirs == 0:
        return {}
    cosine = product / (ours * theirs) ** 0.5 if ours else 0.0
    return {"eval/health/cosine": cosine, "eval/health/norm_ratio": (ours / theirs) ** 0.5}


def _batches(pack: Pack, answers: Completions, prompts: Sequence[int]) -> list[list[Row]]:
    rows = lay_out(answers, prompts, pack.engine.row_width)
    return micro_batches(rows, min(pack.engine.limits.pass_tokens, CHECKED_TOKENS))


def _of_lane(pack: Pack, lane: int, answers: Completions, batch: Sequence[Row]) -> torch.Tensor:
    """The logits of a batch by the model with a lane's adapter, in the model's type."""
    with pack.engine.adapters.rows(torch.tensor([lane]).repeat(len(batch))):
        return completion_logits(pack.engine.model, answers, batch)[0]


def _fits(pack: Pack) -> bool:
    """Whether a copy of the model in fp32 takes no more memory than rows may take, which are not there meanwhile."""
    needed = WIDE_BYTES * parameter_count(pack.engine.model)
    return needed <= budget_of(pack.engine.model, pack.config, pack.engine.ranks.count)


@torch.inference_mode()
def _wide(pack: Pack) -> dict[str, torch.Tensor]:
    """The untrained model's parameters and buffers in fp32, by name."""
    with pack.engine.adapters.base() as untrained:
        return {name: tensor.to(torch.float32, copy=True) for name, tensor in _tensors(pack, untrained).items()}


def _tensors(pack: Pack, untrained: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the untrained model computes with, but for whole numbers."""
    model = pack.engine.model
    found = {**dict(model.named_parameters()), **dict(model.named_buffers()), **untrained}
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}
