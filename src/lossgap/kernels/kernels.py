"""The operations that one update is made of, at a run's shapes, and the cases of known traps.

Linear layers, attention (plain and fused), layer normalisation, GELU, cross-entropy, the embedding's gradient, AdamW.
Known traps, with a case each whatever the run's shapes are:

- linear layers with a bias and more than 65,536 rows, wrong on Apple's GPUs (pytorch issues 109457, 189495);
- fused attention in bfloat16 (nanoGPT issues 137, 269, 554);
- float32 products that run in TF32 or bfloat16 although nobody asked (torch's switches and driver overrides).

Letters: N rows (B x T), B sequences, H heads, T context, D channels of a head, C channels, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lossgap.config import TrainConfig
from lossgap.gpt import Attention, GPTConfig, LayerNorm
from lossgap.kernels.operation import (
    UNIT,
    Operation,
    Tensors,
    home,
    leaves,
    moved,
    numbers,
    rounded,
    sample,
)
from lossgap.kernels.products import Linear, SelfAttention
from lossgap.random import Float64
from lossgap.training.numerics import Numerics, training_attention

MANY_ROWS = 65_536 + 64
"""More than 2^16, where a kernel that counts rows in 16 bits starts again."""
MOST_ON_CPU = 1 << 25
"""Numbers in an output on a CPU; a canary of more takes minutes there, so further rows are left out."""
MOST = 1 << 30
"""Numbers in an output on an accelerator."""
MOST_LOGITS = 1 << 23
"""Numbers in the logits of the cross-entropy; float64 needs all of them."""


class Normalisation(Operation):
    """The model's layer normalisation of x (N, C), and its gradients; float32 whatever autocast does elsewhere."""

    name, of_run = "layer norm", True

    def __init__(self, rows: int, n_embd: int, bias: bool) -> None:
        self.shape = f"({rows:,}, {n_embd:,})"
        # As small as the residual stream of a new model (0.02 each of tokens and positions), so that epsilon counts.
        self.inputs = {
            "x": numbers("norm/x", rows, n_embd, std=0.03),
            "w": 1 + numbers("norm/w", n_embd, std=0.1),
            "g": numbers("norm/g", rows, n_embd),
        }
        self.directions = {"output": "forward", "input gradient": "backward", "weight gradient": "backward"}
        if bias:
            self.inputs["b"] = numbers("norm/b", n_embd, std=0.1)
            self.directions = {**self.directions, "bias gradient": "backward"}
        self._rows = sample(rows)

    def on_device(self, numerics: Numerics) -> Tensors:
        """`lossgap.gpt.LayerNorm` and autograd."""
        at = leaves(self.inputs, numerics.device)
        module = LayerNorm(len(at["w"]), "b" in at).to(numerics.device)
        with torch.no_grad():
            module.weight.copy_(at["w"])
            if module.bias is not None:
                module.bias.copy_(at["b"])
        with numerics.autocast():
            y = module(at["x"])
        x, *weights = torch.autograd.grad(y, [at["x"], *module.parameters()], at["g"].detach().to(y.dtype))
        found = (y[self._rows], x[self._rows], *weights)
        return home(dict(zip(self.directions, found, strict=True)))

    def sampled(self) -> Tensors:
        """All of it."""
        return {name: tensor.double() for name, tensor in self.inputs.items()}

    def exact(self, inputs: Tensors) -> Tensors:
        """By its definition, epsilon 1e-5."""
        x, w, g, b = inputs["x"], inputs["w"], inputs["g"], inputs.get("b")
        centred = x - x.mean(1, keepdim=True)
        inverse = (centred.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        normal = centred * inverse
        dy, at = (g * w)[self._rows], normal[self._rows]
        dx = inverse[self._rows] * (dy - dy.mean(1, keepdim=True) - at * (dy * at).mean(1, keepdim=True))
        y = at * w + (0.0 if b is None else b)
        found = (y, dx, (g * normal).sum(0), *(() if b is None else (g.sum(0),)))
        return dict(zip(self.directions, found, strict=True))

    def terms(self, inputs: Tensors) -> Mapping[str, Float64]:
        """Return the terms of 64 channels."""
        x, g = inputs["x"][:, :64], inputs["g"][:, :64]
        found = {"weight gradient": (g * x / x.std()).numpy(), "bias gradient": g.numpy()}
        return {name: terms for name, terms in found.items() if name in self.directions}


class Gelu(Operation):
    """x Phi(x) of x (N, 4C), and its gradient."""

    name, of_run = "GELU", True

    def __init__(self, rows: int, width: int, dtype: str) -> None:
        self.shape = f"({rows:,}, {width:,})"
        self.inputs = {name: rounded(numbers(f"gelu/{name}", rows, width), dtype) for name in ("x", "g")}
        self.directions = {"output": "forward", "input gradient": "backward"}
        self._rows = sample(rows)

    def on_device(self, numerics: Numerics) -> Tensors:
        """`F.gelu` of what the linear layer before it gives."""
        x = moved(self.inputs["x"], numerics.device, numerics.dtype).requires_grad_()
        with numerics.autocast():
            y = F.gelu(x)
        [dx] = torch.autograd.grad(y, [x], self.inputs["g"].to(numerics.device, y.dtype))
        return home({"output": y[self._rows], "input gradient": dx[self._rows]})

    def sampled(self) -> Tensors:
        """Some rows."""
        return {name: tensor[self._rows].double() for name, tensor in self.inputs.items()}

    def exact(self, inputs: Tensors) -> Tensors:
        """Phi by the error function."""
        x, g = inputs["x"], inputs["g"]
        phi = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
        return {"output": x * phi, "input gradient": g * (phi + x * density)}

    def unit_out(self, numerics: Numerics, output: str) -> float:
        """The dtype of x."""
        return UNIT[numerics.dtype]


class CrossEntropy(Operation):
    """The mean of -log softmax(logits)[target] over N rows of V logits, and its gradient."""

    name, of_run = "cross-entropy", True

    def __init__(self, rows: int, vocab_size: int, dtype: str) -> None:
        self.shape = f"({rows:,}, {vocab_size:,})"
        logits = rounded(numbers("cross-entropy/logits", rows, vocab_size, std=2.0), dtype)
        self.inputs = {"logits": logits, "targets": torch.arange(rows) * 7919 % vocab_size}
        self.directions = {"loss": "forward", "logits gradient": "backward"}
        self._rows = sample(rows)

    def on_device(self, numerics: Numerics) -> Tensors:
        """`F.cross_entropy` of logits as the output layer gives them."""
        logits = moved(self.inputs["logits"], numerics.device, numerics.dtype).requires_grad_()
        with numerics.autocast():
            loss = F.cross_entropy(logits, self.inputs["targets"].to(numerics.device), ignore_index=-1)
        [gradient] = torch.autograd.grad(loss, [logits])
        return home({"loss": loss.view(1), "logits gradient": gradient[self._rows]})

    def sampled(self) -> Tensors:
        """All of it: the loss is a mean over all rows."""
        return {"logits": self.inputs["logits"].double(), "targets": self.inputs["targets"]}

    def exact(self, inputs: Tensors) -> Tensors:
        """log of the sum of exponentials minus the target's logit; softmax minus the target's one, over N."""
        logits, targets = inputs["logits"], inputs["targets"]
        losses = torch.logsumexp(logits, 1) - logits.gather(1, targets[:, None])[:, 0]
        gradient = torch.softmax(logits[self._rows], 1)
        gradient[torch.arange(len(self._rows)), targets[self._rows]] -= 1
        return {"loss": losses.mean().view(1), "logits gradient": gradient / len(logits)}

    def unit_out(self, numerics: Numerics, output: str) -> float:
        """The loss is float32, the gradient has the logits' dtype."""
        return UNIT["float32" if output == "loss" else numerics.dtype]

    def terms(self, inputs: Tensors) -> Mapping[str, Float64]:
        """The rows' losses over N, in 16 orders."""
        logits, targets = inputs["logits"], inputs["targets"]
        losses = (torch.logsumexp(logits, 1) - logits.gather(1, targets[:, None])[:, 0]) / len(logits)
        return {"loss": torch.stack([losses.roll(n * len(losses) // 16) for n in range(16)], 1).numpy()}


class Embedding(Operation):
    """Rows of a table (V, C) by index, and the table's gradient: a sum over all places of each token."""

    name, of_run = "embedding", True

    def __init__(self, rows: int, vocab_size: int, n_embd: int) -> None:
        self.shape = f"{rows:,} of ({vocab_size:,}, {n_embd:,})"
        # The square of a uniform number: some tokens are frequent, as in a text.
        places = torch.arange(rows) * 7919 % rows / rows
        self.inputs = {
            "table": numbers("embedding/table", vocab_size, n_embd, std=0.02),
            "index": (places.double().square() * vocab_size).long(),
            "g": numbers("embedding/g", rows, n_embd),
        }
        self.directions = {"output": "forward", "table gradient": "backward"}

    def on_device(self, numerics: Numerics) -> Tensors:
        """`F.embedding` and autograd."""
        at = leaves(self.inputs, numerics.device)
        y = F.embedding(at["index"], at["table"])
        [table] = torch.autograd.grad(y, [at["table"]], at["g"].detach())
        return home({"output": y[sample(len(y))], "table gradient": table})

    def sampled(self) -> Tensors:
        """All of it."""
        return {name: x.double() if x.is_floating_point() else x for name, x in self.inputs.items()}

    def exact(self, inputs: Tensors) -> Tensors:
        """Indexing, and its transpose."""
        index, g, table = inputs["index"], inputs["g"], inputs["table"]
        gradient = torch.zeros_like(table).index_add_(0, index, g)
        return {"output": table[index[sample(len(index))]], "table gradient": gradient}

    def terms(self, inputs: Tensors) -> Mapping[str, Float64]:
        """Return the terms of the most frequent token."""
        index, g = inputs["index"], inputs["g"]
        return {"table gradient": g[index == index.mode().values][:, :64].numpy()}


class AdamW(Operation):
    """Three updates of one matrix, with the run's settings and implementation."""

    of_run = True
    STEPS = 3

    def __init__(self, n_embd: int, config: TrainConfig, implementation: str) -> None:
        self.name = f"AdamW, {implementation}"
        self.shape = f"({4 * n_embd:,}, {n_embd:,}), {self.STEPS} updates"
        self.config = config
        self.inputs = {"p": numbers("adamw/p", 4 * n_embd, n_embd, std=0.02)}
        for step in range(self.STEPS):
            self.inputs[f"g{step}"] = numbers(f"adamw/g{step}", 4 * n_embd, n_embd, std=1e-3)
        self.directions = {"update": "optimizer", "first moment": "optimizer", "second moment": "optimizer"}

    def on_device(self, numerics: Numerics) -> Tensors:
        """`torch.optim.AdamW`, as training/optimizer.py makes it."""
        c, fused = self.config, numerics.adamw == "fused"
        p = torch.nn.Parameter(self.inputs["p"].detach().clone().to(numerics.device))
        optimizer = torch.optim.AdamW(
            [p],
            lr=c.learning_rate,
            betas=(c.beta1, c.beta2),
            weight_decay=c.weight_decay,
            fused=fused,
            foreach=None if fused else False,
        )
        for step in range(self.STEPS):
            p.grad = self.inputs[f"g{step}"].to(numerics.device)
            optimizer.step()
        state = optimizer.state[p]
        return home({"update": p, "first moment": state["exp_avg"], "second moment": state["exp_avg_sq"]})

    def sampled(self) -> Tensors:
        """All of it."""
        return {name: tensor.double() for name, tensor in self.inputs.items()}

    def exact(self, inputs: Tensors) -> Tensors:
        """Loshchilov and Hutter 2019, algorithm 2, with torch's epsilon 1e-8 outside of the root."""
        c, p = self.config, inputs["p"]
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        for step in range(1, self.STEPS + 1):
            g = inputs[f"g{step - 1}"]
            m, v = c.beta1 * m + (1 - c.beta1) * g, c.beta2 * v + (1 - c.beta2) * g * g
            root = (v / (1 - c.beta2**step)).sqrt() + 1e-8
            p = p * (1 - c.learning_rate * c.weight_decay) - c.learning_rate * (m / (1 - c.beta1**step)) / root
        return {"update": p, "first moment": m, "second moment": v}

    def base(self, inputs: Tensors, output: str) -> Tensor | None:
        """The weights before."""
        return inputs["p"] if output == "update" else None


def of_a_run(shape: GPTConfig, config: TrainConfig, numerics: Numerics, micro_batch: int) -> Iterator[Operation]:
    """The operations of one micro-batch and one update, then the traps that the run does not come near."""
    T, C, V = shape.block_size, shape.n_embd, shape.vocab_size
    rows, dtype = micro_batch * T, numerics.dtype
    most = MOST_ON_CPU if numerics.device_type == "cpu" else MOST

    def fitting(width: int, most: int = most) -> int:
        return max(1, min(rows, most // width))

    for name, n_in, n_out in (("c_attn", C, 3 * C), ("c_proj of attention", C, C), ("c_fc", C, 4 * C)):
        yield Linear(name, fitting(n_out), n_in, n_out, shape.bias, dtype)
    yield Linear("c_proj of the MLP", fitting(4 * C), 4 * C, C, shape.bias, dtype)
    yield Linear("lm_head", fitting(V), C, V, False, dtype)
    BHTD = (max(1, min(micro_batch, most // (T * T * shape.n_head))), shape.n_head, T, C // shape.n_head)
    used = {training_attention(config, numerics), numerics.attention}
    kernels: tuple[Attention, ...] = ("plain", "fused")
    for kernel in kernels:
        yield SelfAttention(BHTD, kernel, dtype, of_run=kernel in used)
    yield Normalisation(fitting(C), C, shape.bias)
    yield Gelu(fitting(4 * C), 4 * C, dtype)
    yield CrossEntropy(fitting(V, MOST_LOGITS), V, dtype)
    yield Embedding(fitting(C), V, C)
    yield AdamW(C, config, numerics.adamw)
    if rows < MANY_ROWS:
        yield Linear("a linear layer of many rows", MANY_ROWS, 32, 32, True, dtype, of_run=False)
    if dtype != "float32":
        yield Linear("a float32 product", fitting(4 * C), C, 4 * C, False, "float32", of_run=False)
    if dtype != "bfloat16":
        yield SelfAttention(BHTD, "fused", "bfloat16", of_run=False)
