"""Linear layers and attention, as operations that are held against float64.

Letters: N rows (B x T), B sequences, H heads, T context, D channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F

from lossgap.gpt import Attention, plain_attention
from lossgap.kernels.operation import (
    UNIT,
    Noise,
    Operation,
    Tensors,
    home,
    leaves,
    low_unit,
    moved,
    numbers,
    products,
    rounded,
    sample,
)
from lossgap.random import Float64
from lossgap.training.numerics import Numerics

EXP_ERROR = 2.0**-18
"""Relative, of an exponential in a fused float32 kernel: torch's on a CPU (exp_u20) is good to 20 bits."""
PAIRS = 4
"""Sequences and heads of an attention that float64 computes."""


class Linear(Operation):
    """y = x w' + b for x (N, in), w (out, in), and its gradients for a gradient of y."""

    def __init__(
        self, name: str, rows: int, n_in: int, n_out: int, bias: bool, dtype: str, of_run: bool = True
    ) -> None:
        self.name, self.dtype, self.of_run = name, dtype, of_run
        self.shape = f"({rows:,}, {n_in:,}) x ({n_in:,}, {n_out:,})" + " + bias" * bias
        self.inputs = {
            "x": numbers(f"{name}/x", rows, n_in),
            "w": numbers(f"{name}/w", n_out, n_in, std=1 / math.sqrt(n_in)),
            "g": numbers(f"{name}/g", rows, n_out),
        }
        self.directions = {"output": "forward", "input gradient": "backward", "weight gradient": "backward"}
        if bias:
            self.inputs["b"] = numbers(f"{name}/b", n_out)
            self.directions = {**self.directions, "bias gradient": "backward"}
        self._rows, self._outs, self._ins = sample(rows), sample(n_out, 64), sample(n_in, 64)

    def on_device(self, numerics: Numerics) -> Tensors:
        """`F.linear` under the run's autocast, and autograd."""
        at = leaves(self.inputs, numerics.device)
        with replace(numerics, dtype=self.dtype).autocast():
            y = F.linear(at["x"], at["w"], at.get("b"))
        wanted = [at[name] for name in ("x", "w", "b") if name in at]
        x, w, *b = torch.autograd.grad(y, wanted, at["g"].detach().to(y.dtype))
        found = (y[self._rows], x[self._rows], w[self._outs][:, self._ins], *(each[self._outs] for each in b))
        return home(dict(zip(self.directions, found, strict=True)))

    def sampled(self) -> Tensors:
        """Some rows of x and g for what has a row each; some columns of both for the sums over all rows."""
        x, w, g = (self.inputs[name] for name in ("x", "w", "g"))
        found = {"x": x[self._rows], "w": w, "g": g[self._rows], "columns of x": x[:, self._ins]}
        found |= {"columns of g": g[:, self._outs]} | ({"b": self.inputs["b"]} if "b" in self.inputs else {})
        return {name: tensor.double() for name, tensor in found.items()}

    def exact(self, inputs: Tensors) -> Tensors:
        """Matrix products."""
        x, w, g, b = inputs["x"], inputs["w"], inputs["g"], inputs.get("b")
        columns_x, columns_g = inputs["columns of x"], inputs["columns of g"]
        y = x @ w.T + (0.0 if b is None else b)
        found = (y, g @ w, columns_g.T @ columns_x, *(() if b is None else (columns_g.sum(0),)))
        return dict(zip(self.directions, found, strict=True))

    def unit_in(self, numerics: Numerics) -> float:
        """The low dtype, or TF32 where it is allowed."""
        return low_unit(replace(numerics, dtype=self.dtype))

    def unit_out(self, numerics: Numerics, output: str) -> float:
        """Autocast's dtype; products of TF32 come out in float32."""
        return UNIT[self.dtype]

    def terms(self, inputs: Tensors) -> Mapping[str, Float64]:
        """Return the terms of 64 outputs each."""
        x, w, g = inputs["x"], inputs["w"], inputs["g"]
        columns_x, columns_g = inputs["columns of x"], inputs["columns of g"]
        found = {
            "output": products(x[:8].T, w[:8].T),
            "input gradient": products(g[:8].T, w[:, :8]),
            "weight gradient": products(columns_g[:, :8], columns_x[:, :8]),
            "bias gradient": columns_g.numpy(),
        }
        return {name: found[name] for name in self.directions}


class SelfAttention(Operation):
    """Causal attention on q, k, v (B, H, T, D) and its gradients, with one kernel in one dtype."""

    def __init__(self, shape_BHTD: tuple[int, int, int, int], kernel: Attention, dtype: str, of_run: bool) -> None:
        B, H, T, D = shape_BHTD
        self.name, self.of_run = f"{kernel} attention, {dtype}", of_run
        self.shape = f"{B} sequences, {H} heads, {T:,} x {D}"
        self.shape_BHTD, self.kernel, self.dtype = shape_BHTD, kernel, dtype
        # Scores with a deviation of 2, as trained heads have: flat ones would hide errors behind the softmax.
        stds = {"q": 1.4, "k": 1.4, "v": 1.0, "g": 1.0}
        self.inputs = {
            name: rounded(numbers(f"attention/{name}", B * H, T, D, std=std), dtype) for name, std in stds.items()
        }
        self.directions = {
            "output": "forward",
            "gradient of q": "backward",
            "gradient of k": "backward",
            "gradient of v": "backward",
        }
        self._pairs = sample(B * H, PAIRS)

    def on_device(self, numerics: Numerics) -> Tensors:
        """The model's own two ways to attend."""
        B, H, T, D = self.shape_BHTD
        numerics = replace(numerics, dtype=self.dtype)
        at = {
            name: moved(tensor, numerics.device, self.dtype).view(B, H, T, D).detach().requires_grad_(name != "g")
            for name, tensor in self.inputs.items()
        }
        later = torch.ones(T, T, dtype=torch.bool, device=numerics.device).triu(1)
        with numerics.autocast():
            if self.kernel == "fused":
                y = F.scaled_dot_product_attention(at["q"], at["k"], at["v"], dropout_p=0.0, is_causal=True)
            else:
                y = plain_attention(at["q"], at["k"], at["v"], later, 0.0, None)
        gradients = torch.autograd.grad(y, (at["q"], at["k"], at["v"]), at["g"].to(y.dtype))
        found = (tensor.reshape(B * H, T, D)[self._pairs] for tensor in (y, *gradients))
        return home(dict(zip(self.directions, found, strict=True)))

    def sampled(self) -> Tensors:
        """Some sequences and heads, (pairs, T, D) each."""
        return {name: tensor[self._pairs].double() for name, tensor in self.inputs.items()}

    def exact(self, inputs: Tensors) -> Tensors:
        """softmax(q k' / sqrt(D)) v on and below the diagonal, and its derivative."""
        return self.perturbed(inputs, lambda _, x: x)

    def perturbed(self, inputs: Tensors, noise: Noise) -> Tensors:
        """Scores, exponentials and their derivatives are rounded, too.

        In float32 exponentials may be off by `EXP_ERROR`.
        """
        q, k, v, g = (noise(name, inputs[name]) for name in "qkvg")
        T, D = q.shape[1:]
        scores = noise("scores", (q @ k.transpose(1, 2)) / math.sqrt(D))
        e = torch.exp(scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf))
        e = e * (1 + max(1.0, EXP_ERROR / UNIT[self.dtype]) * (noise("exp", torch.ones_like(e)) - 1))
        p = noise("weights", e / e.sum(-1, keepdim=True))
        dp = noise("dp", g @ v.transpose(1, 2))
        ds = noise("ds", p * (dp - noise("sum", (p * dp).sum(-1, keepdim=True))) / math.sqrt(D))
        found = (p @ v, ds @ k, ds.transpose(1, 2) @ q, p.transpose(1, 2) @ g)
        return dict(zip(self.directions, found, strict=True))

    def unit_in(self, numerics: Numerics) -> float:
        """The dtype of q, k and v, or TF32 where it is allowed."""
        return low_unit(replace(numerics, dtype=self.dtype))

    def unit_out(self, numerics: Numerics, output: str) -> float:
        """The dtype of q, k and v."""
        return UNIT[self.dtype]

    def terms(self, inputs: Tensors) -> Mapping[str, Float64]:
        """The weighted values of the last row, which sees all T of them."""
        q, k, v = (inputs[name][0] for name in "qkv")
        weights = torch.softmax(q[-1] @ k.T / math.sqrt(q.shape[-1]), -1)
        return {"output": (weights[:, None] * v).numpy()}
