"""Drawing tokens: nanoGPT's draws, with the keys and values of earlier tokens kept while the context has room.

When the context is full the window slides, every position changes, and each token is drawn from the recomputed window,
as in nanoGPT. Kept keys and values round differently than recomputed ones, which would now and then draw another
token. `_Race` sees where that is possible, and there the window is recomputed too: the tokens are the same either way.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from lossgap.errors import CheckpointError
from lossgap.gpt import GPT, Cache

TOLERANCE = {torch.float32: 2.0**-13, torch.bfloat16: 2.0**-4, torch.float16: 2.0**-7}
"""How far a logit from kept keys and values may lie from the recomputed one, relative to the largest logit.

1,024 rounding units in float32 and 8 in the short types. Measured on the laptop recipe after 250 iterations: 3 and 1.
"""

RACE_ROUNDING = 2.0**-18
"""The most that the softmax, the division and the logarithm of a race, all in float32, can add to a score difference.

32 rounding units of 1: the logarithms lie within +-20, so their own rounding is below 2^-19. It counts where the logits
are so small that their tolerance is not above it.
"""


@torch.no_grad()
def generate(
    model: GPT, idx: Tensor, max_new_tokens: int, temperature: float, top_k: int | None, cache: bool = True
) -> Tensor:
    """Continue `idx` by `max_new_tokens` tokens, drawn one by one from torch's default generator for idx's device.

    idx (B, T) int64 with T >= 1, of any length: the model sees the last `block_size` tokens. Logits are divided by
    `temperature`; the `top_k` largest take part in the draw (None: all). Returns (B, T + max_new_tokens). The result
    and the generator's state after it are the same with and without `cache`. `model` should be in evaluation mode.

    Raises CheckpointError (`not-finite-logits`) where the model gives infinite or undefined logits.
    """
    block_size = model.config.block_size
    past: list[Cache] | None = None
    cache = cache and _draws_by_race(idx.device)
    for _ in range(max_new_tokens):
        if cache and idx.size(1) <= block_size:
            first = past is None  # nothing is kept yet: these logits are the recomputed ones
            x, past = model.hidden(idx if first else idx[:, -1:], past=past)
            race = _Race(_scaled(model.logits(x[:, [-1], :]), temperature), top_k)
            if not first and race.in_doubt():
                race = _Race(_scaled(model(idx)[0], temperature), top_k, race.times)
            drawn = race.winner
        else:
            scaled = _scaled(model(idx[:, -block_size:])[0], temperature)
            drawn = torch.multinomial(_probabilities(scaled, top_k), num_samples=1)
        idx = torch.cat((idx, drawn), dim=1)
    return idx


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits (B, 1, V) over the temperature, (B, V)."""
    scaled = logits[:, -1, :] / temperature
    if not bool(torch.isfinite(scaled).all()):
        raise CheckpointError(
            "not-finite-logits",
            f"at temperature {temperature} the model's logits are infinite or not a number, so that no token can be "
            "drawn; take an earlier checkpoint, another dtype or a temperature nearer to 1",
        )
    return scaled


def _probabilities(scaled: Tensor, top_k: int | None) -> Tensor:
    """Softmax over the `top_k` largest of the scaled logits, (B, V) -> (B, V)."""
    if top_k is not None:
        values, _ = torch.topk(scaled, min(top_k, scaled.size(-1)))
        scaled = scaled.masked_fill(scaled < values[:, [-1]], float("-inf"))
    return F.softmax(scaled, dim=-1)


class _Race:
    """One token drawn from each row of scaled logits (B, V), as torch.multinomial draws it, and how close it was.

    torch.multinomial draws one token by an exponential race: it draws times q ~ Exp(1) and takes argmax p / q (the
    first arrival at rates p; Gumbel's maximum in other words). The times are drawn once; with them the race can be run
    again on better logits.
    """

    def __init__(self, scaled: Tensor, top_k: int | None, times: Tensor | None = None) -> None:
        probabilities = _probabilities(scaled, top_k)
        self.scaled, self.top_k = scaled, top_k
        self.times = torch.empty_like(probabilities).exponential_() if times is None else times
        self.winner = (probabilities / self.times).argmax(dim=-1, keepdim=True)

    def in_doubt(self) -> bool:
        """True if logits within the tolerance of these could have another winner.

        log p / q is the logit minus log q up to a constant, so the winner stands if it leads by twice the error of a
        logit over all that may be among the top k, and surely is among them itself.
        """
        scaled = self.scaled.float()
        twice = 2 * TOLERANCE[self.scaled.dtype] * scaled.abs().amax(dim=-1, keepdim=True)
        score = scaled - self.times.float().log()
        own = scaled.gather(-1, self.winner)
        lead = score.gather(-1, self.winner) - twice - RACE_ROUNDING
        rivals = score.scatter(-1, self.winner, float("-inf"))
        doubt = torch.zeros_like(lead, dtype=torch.bool)
        if self.top_k is not None and self.top_k < scaled.size(-1):
            values, _ = torch.topk(scaled, self.top_k + 1)
            rivals = rivals.masked_fill(scaled < values[:, [-2]] - twice, float("-inf"))
            doubt = own - twice <= values[:, [-1]]
        doubt |= lead <= rivals.amax(dim=-1, keepdim=True)
        return bool(doubt.any())


@functools.cache
def _draws_by_race(device: torch.device) -> bool:
    """True if torch.multinomial on this device draws as `_Race` does: 64 draws and the generator's state agree."""
    weights = torch.linspace(0.5, 1.5, 64 * 65, device=device).view(64, 65)
    ours, theirs = (torch.Generator(device).manual_seed(1) for _ in range(2))
    times = torch.empty_like(weights).exponential_(generator=ours)
    drawn = torch.multinomial(weights, num_samples=1, generator=theirs)
    same = torch.equal(drawn, (weights / times).argmax(dim=-1, keepdim=True))
    return same and torch.equal(ours.get_state(), theirs.get_state())
