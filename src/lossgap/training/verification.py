"""Checks of a checkpoint before anything is done with it: the file may be torn, or come from a stranger.

1. `check_archive`: a zip file as torch writes it, so that no part unpacks to more than the file holds, and a pickle in
   it that is short and names nothing but what tensors are made of (`check_pickle`).
2. `check_tree`: once read (`weights_only`, so nothing runs), plain values and dense tensors in a tree of bounded size.
3. `check_parts`: nanoGPT's keys with values of their kinds, and weights of the shape that `model_args` states.
4. `digest`: ours carries its own hash.

Each raises ValueError with the reason, or what zipfile raises; `lossgap.training.checkpoint` makes one line of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

MAX_DEPTH = 16
"""Levels of nesting; nanoGPT's has five."""
MAX_VALUES = 1_000_000
"""Values in the tree, one that is referred to twice counted twice; GPT-2 XL's checkpoint has some 10,000."""
MAX_SHARING = 4
"""Bytes of all tensors by bytes of the file: 2 where every weight were tied to another."""
MAX_OPCODES = 1_000_000
"""Instructions of a checkpoint's pickle; GPT-2 XL's has some 100,000."""
GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(?:tensor_v2|parameter)|torch (?:[A-Z]\w{1,12}Storage|Size)"
)
"""The names that a checkpoint's pickle may use. torch's own list for `weights_only` has more, such as `bytearray`:
called with a number, it makes that many bytes of nothing."""
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.uint8, torch.bool),
)
COUNTS = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
SWITCHES = ("rotary", "qk_norm", "relu2", "zero_proj", "tied")
"""Parts of `model_args` that leave nanoGPT's architecture; logit_softcap is another, a number."""


def check_archive(path: Path, checksums: bool) -> None:
    """Refuse what torch never writes: a compressed part, parts that overlap, a pickle that is not made of tensors.

    With `checksums`, the CRC of every part is verified, too. Raises ValueError, and BadZipFile and what torch raises.
    """
    with path.open("rb") as file:
        # Without these bytes at its head torch takes the file for one of its older form, and reads other parts of it.
        if file.read(4) != b"PK\x03\x04":
            raise ValueError("it does not begin as a zip file does")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch never writes")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its parts overlap, which torch never writes")
        damaged = archive.testzip() if checksums else None
    if damaged is not None:
        raise ValueError(f"its part {damaged!r} fails its checksum")
    # By torch's own reader of zip files: another one might find another pickle under the same name.
    check_pickle(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl"))


def check_pickle(content: bytes) -> None:
    """Look through a pickle without carrying it out: few enough instructions, and no name but those of `GLOBALS`."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number >= MAX_OPCODES:
            raise ValueError(f"its pickle has more than {MAX_OPCODES:,} instructions")
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"its pickle has the instruction {opcode.name}, which torch never writes")
        if opcode.name == "GLOBAL" and not GLOBALS.fullmatch(str(argument)):
            raise ValueError(f"its pickle names {str(argument)[:60]!r}, of which no checkpoint is made")


def check_tree(content: object, file_bytes: int) -> None:
    """Only dicts, lists, tuples, numbers, texts and dense CPU tensors, and no more of them than is credible.

    A file of a kilobyte can describe a tensor of a petabyte (one number, repeated by a stride of 0) or a list that
    holds another one twice, 40 levels deep; whoever walks over them would never come back.
    """
    tensor_bytes = 0
    for number, value in enumerate(_walk(content, MAX_DEPTH)):
        if number >= MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values")
        if isinstance(value, Tensor):
            _check_tensor(value)
            tensor_bytes += value.numel() * value.element_size()
            if tensor_bytes > MAX_SHARING * file_bytes:
                raise ValueError("its tensors claim more than the file holds")
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                raise ValueError("it holds a whole number of more than 64 bits")
        elif not (value is None or isinstance(value, float | str | dict | list | tuple)):
            raise ValueError(f"it holds a {type(value).__name__}, which no checkpoint has")


def _walk(value: object, depth: int) -> Iterator[object]:
    yield value
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        for item in value.values() if isinstance(value, dict) else value:
            yield from _walk(item, depth - 1)
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str | int):
                raise ValueError(f"it has a key that is a {type(key).__name__}")


def _check_tensor(tensor: Tensor) -> None:
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.is_nested or tensor.dtype not in DTYPES:
        raise ValueError("it holds a tensor that is not a plain one of numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor in it claims more numbers than it has")


def check_parts(content: Mapping[str, object]) -> None:
    """The values of nanoGPT's six keys are of their kinds, and the embeddings and layers are those of `model_args`."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "model": dict, "optimizer": dict, "model_args": dict, "iter_num": int, "best_val_loss": (float, int, Tensor),
        "config": dict,
    }  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind) or isinstance(content[key], bool):
            raise ValueError(f"its {key!r} is missing or of the wrong kind")
    iteration, best, model, args = (content[key] for key in ("iter_num", "best_val_loss", "model", "model_args"))
    assert isinstance(iteration, int) and isinstance(model, dict) and isinstance(args, dict)  # noqa: PT018
    if not 0 <= iteration < 2**53:
        raise ValueError(f"its iter_num is {iteration}")
    if isinstance(best, Tensor) and best.numel() != 1:
        raise ValueError("its best_val_loss is not one number")
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in model.items()):
        raise ValueError("its 'model' holds something other than named tensors")
    _check_shape(model, args)


def _check_shape(model: dict[str, Tensor], args: dict[object, object]) -> None:
    """Before a model is built of it: a large number in `model_args` costs nothing to write down."""
    for name in COUNTS:
        count = args.get(name)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 < count < 2**31:
            raise ValueError(f"its model_args[{name!r}] is {str(count)[:40]}, not a usable number")
    if not isinstance(args.get("bias"), bool):
        raise ValueError(f"its model_args['bias'] is {str(args.get('bias'))[:40]}, not True or False")
    for name in SWITCHES:
        if not isinstance(args.get(name, False), bool):
            raise ValueError(f"its model_args[{name!r}] is {str(args[name])[:40]}, not True or False")
    cap = args.get("logit_softcap", 0.0)
    if not isinstance(cap, float) or not 0 <= cap < math.inf:
        raise ValueError(f"its model_args['logit_softcap'] is {str(cap)[:40]}, not a number from 0 on")
    weights = {name.removeprefix("_orig_mod."): tuple(tensor.shape) for name, tensor in model.items()}
    layers = {int(name.split(".")[2]) for name in weights if name.startswith("transformer.h.") and _is_layer(name)}
    fits = (
        weights.get("transformer.wte.weight") == (args["vocab_size"], args["n_embd"])
        and weights.get("transformer.wpe.weight")
        == (None if args.get("rotary") is True else (args["block_size"], args["n_embd"]))
        and len(layers) == args["n_layer"]
    )
    if not fits:
        raise ValueError("its weights do not fit its model_args")
    width, heads = args["n_embd"], args["n_head"]
    if isinstance(width, int) and isinstance(heads, int) and width % heads:
        raise ValueError(f"its n_embd={width} does not divide into n_head={heads} heads")


def _is_layer(name: str) -> bool:
    number = name.split(".")[2]
    return number.isdecimal() and len(number) < 10


def digest(value: object) -> str:
    """SHA-256 over nested dicts, lists, numbers, texts and tensors: equal for equal content, bit for bit."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: hashlib._Hash, value: object) -> None:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        sha.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        sha.update(f"mapping {len(value)}\n".encode())
        for key in sorted(value, key=repr):
            sha.update(f"{key!r}\n".encode())
            _feed(sha, value[key])
    elif isinstance(value, list | tuple):
        sha.update(f"list {len(value)}\n".encode())
        for item in value:
            _feed(sha, item)
    else:
        sha.update(f"{json.dumps(value)}\n".encode())
