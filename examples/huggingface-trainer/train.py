"""Trains a small GPT-2 on the characters of a text with Hugging Face's Trainer.

    python train.py --text_file=input.txt --output_dir=control --max_steps=200 --learning_rate=1e-3 --seed=1

All flags of transformers' TrainingArguments, and those of `Shape`. The val loss is over the last tenth of the text, in
windows of `block_size` characters, in nats per character. Needs transformers and accelerate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, Trainer, TrainingArguments, set_seed


@dataclass
class Shape:
    """The text and the model."""

    text_file: str
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 32
    block_size: int = 32
    dropout: float = 0.0


class Windows(Dataset[dict[str, torch.Tensor]]):
    """Windows of T tokens, side by side, each one the input and the labels, which GPT2LMHeadModel shifts itself."""

    def __init__(self, tokens: torch.Tensor, block_size: int) -> None:
        self.windows = tokens[: len(tokens) // block_size * block_size].view(-1, block_size)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.windows[index], "labels": self.windows[index]}


def model_of(shape: Shape, vocab_size: int) -> GPT2LMHeadModel:
    """GPT-2 of this shape, with weights from torch's generator."""
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=shape.block_size,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
        resid_pdrop=shape.dropout,
        embd_pdrop=shape.dropout,
        attn_pdrop=shape.dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


def main() -> None:
    """Train, and leave trainer_state.json in `output_dir`."""
    parser = HfArgumentParser((Shape, TrainingArguments))
    parser.set_defaults(eval_strategy="steps", eval_steps=50, logging_steps=50, save_strategy="no", report_to="none")
    shape, arguments = parser.parse_args_into_dataclasses()
    set_seed(arguments.seed)  # the Trainer seeds before it trains, which is after the model has its weights
    text = Path(shape.text_file).read_text(encoding="utf-8")
    ids = {char: index for index, char in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[char] for char in text])
    first_val = len(tokens) * 9 // 10
    trainer = Trainer(
        model=model_of(shape, len(ids)),
        args=arguments,
        train_dataset=Windows(tokens[:first_val], shape.block_size),
        eval_dataset=Windows(tokens[first_val:], shape.block_size),
    )
    trainer.train()
    trainer.save_state()


if __name__ == "__main__":
    main()
