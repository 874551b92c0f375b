"""The slow way, for comparison: one completion at a time, dense merged weights, no cache, no padding, no batch."""

from collections.abc import Mapping, Sequence

import torch
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from tinylora.engine.rows import Completions
from tinylora.engine.sampling import Request, choose
from tinylora.train.pack import Pack


def dense_weights(pack: Pack, lane: int) -> dict[str, torch.Tensor]:
    """W + U Sigma (sum_i v_i P_i) V^T of every adapted module, differentiable in the lane's v."""
    adapter, weights = pack.engine.adapters.lane(lane), {}
    for index, (name, factors) in enumerate(pack.basis.factors.items()):
        v = adapter.v[adapter.group_of[index]]
        matrix = sum(v[i] * adapter.projections[index, i] for i in range(len(v)))
        update = factors.left * factors.sigma @ matrix @ factors.right.T
        module = pack.engine.model.get_submodule(name)
        weights[f"{name}.weight"] = module.weight + (update.T if isinstance(module, Conv1D) else update)
    return weights


def logits(pack: Pack, weights: Mapping[str, torch.Tensor], tokens: Sequence[int]) -> torch.Tensor:
    """Logits (T, V) after each token of one sequence."""
    found: torch.Tensor = functional_call(pack.engine.model, dict(weights), (torch.tensor([list(tokens)]),)).logits
    return found[0]


def logps(
    pack: Pack,
    weights: Mapping[str, torch.Tensor],
    prompt: Sequence[int],
    completion: Sequence[int],
    temperature: float,
) -> torch.Tensor:
    """Log-probabilities (T,) of the tokens of one completion."""
    predicted = logits(pack, weights, [*prompt, *completion])[len(prompt) - 1 : -1] / temperature
    return predicted.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]


@torch.no_grad()
def decode(pack: Pack, request: Request, row: int) -> list[int]:
    """One row of a rollout, the whole sequence read anew for every token."""
    prompt = row // request.samples
    weights = dense_weights(pack, int(request.lane_of_prompt[prompt]))
    completion: list[int] = []
    while len(completion) < request.sampling.max_new_tokens:
        last = logits(pack, weights, [*request.prompts[prompt], *completion])[-1:]
        noise = request.noise[row, len(completion)][None]
        completion.append(int(choose(last, noise, request.sampling)[0]))
        if completion[-1] in pack.engine.end_tokens:
            break
    return completion


def grpo_gradient(
    pack: Pack, lane: int, completions: Completions, logp_sampler: torch.Tensor, advantages: torch.Tensor
) -> torch.Tensor:
    """The gradient (K, u) of one lane's GRPO loss, with importance weights, entropy term, and no KL term."""
    entropy_coefficient = pack.config.algorithm.entropy_coefficient
    cap, temperature = pack.config.algorithm.importance_cap, pack.config.rollout.temperature
    weights, v = dense_weights(pack, lane), pack.engine.adapters.lane(lane).v
    total, tokens = torch.zeros(()), 0
    for number, completion in enumerate(completions.tokens):
        prompt = number // completions.samples
        if completions.lane_of_prompt[prompt] == lane:
            logp = logps(pack, weights, completions.prompts[prompt], completion, temperature)
            ratio = (logp.detach() - logp_sampler[number, : len(completion)]).exp().clamp(max=cap)
            total = total - (ratio * advantages[number] * logp).sum()
            sequence = [*completions.prompts[prompt], *completion]
            predicted = logits(pack, weights, sequence)[-len(completion) - 1 : -1] / temperature
            probabilities = predicted.softmax(-1)
            total = total + entropy_coefficient * (probabilities * probabilities.log()).sum()
            tokens += len(completion)
    return torch.autograd.grad(total / tokens, v)[0]
