"""A bundle comes back as it was written, and a damaged or hostile one is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from torch import Tensor

from lossgap import schemas
from lossgap.errors import BundleError
from lossgap.parity import bundle_file as bundle_module
from lossgap.parity.bundle import DIGEST, DOCUMENT, Bundle, bundle_arrays, digest, document, write_bundle
from lossgap.parity.bundle_file import read_bundle


def same(first: Bundle, second: Bundle) -> None:
    """Assert that two bundles are equal, bit for bit."""
    assert document(first) == document(second)
    mine, theirs = bundle_arrays(first), bundle_arrays(second)
    assert mine.keys() == theirs.keys()
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


def refused(path: Path, slug: str = "bad-bundle", words: str = "") -> str:
    """Assert that reading the bundle gives one clear line; that line."""
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    line = str(caught.value)
    assert caught.value.slug == slug, line
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 600
    assert words in line, line
    return line


def test_it_comes_back(recorded: Bundle, tmp_path: Path) -> None:
    size = write_bundle(recorded, tmp_path / "copy")
    assert size == (tmp_path / "copy").stat().st_size
    found = read_bundle(tmp_path / "copy")
    same(found, recorded)
    assert found.config == recorded.config
    assert found.shape == recorded.shape
    assert found.losses == recorded.losses
    first, last = found.points
    assert (first.iteration, last.iteration, first.gradients) == (0, 7, None)
    assert last.gradients is not None
    assert all(torch.equal(first.updated[name], recorded.points[0].updated[name]) for name in first.updated)


def test_its_document_follows_the_schema(recorded: Bundle) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load("bundle"))
    content = document(recorded)
    jsonschema.validate(content, schemas.load("bundle"))
    for change in ("schema", "losses", "points", "numerics"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**content, change: "x"}, schemas.load("bundle"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "more": 1}, schemas.load("bundle"))


def test_nothing_is_written_over(recorded: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_text("mine")
    with pytest.raises(BundleError) as caught:
        write_bundle(recorded, path)
    assert caught.value.slug == "bundle-exists"
    assert path.read_text() == "mine"
    with pytest.raises(BundleError, match="is not a bundle"):
        write_bundle(recorded, path, overwrite=True)
    assert path.read_text() == "mine"
    path.unlink()
    write_bundle(recorded, path)
    path.write_bytes(path.read_bytes()[:5000])
    write_bundle(recorded, path, overwrite=True)
    same(read_bundle(path), recorded)
    with pytest.raises(BundleError) as caught:
        write_bundle(recorded, tmp_path / "missing" / "copy")
    assert caught.value.slug == "bundle-unwritable"
    with pytest.raises(BundleError) as caught:
        write_bundle(recorded, tmp_path, overwrite=True)
    assert caught.value.slug == "bundle-exists"
    assert not list(tmp_path.glob("*.tmp-*"))


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "no-bundle")
    refused(tmp_path, "no-bundle")
    refused(Path("a\0b"), "no-bundle")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "no-bundle")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 8, b"PK\x03\x04" + b"x" * 100, b"\xff" * 64])
def test_what_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    refused(path)


def test_a_safetensors_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(save({"a": np.zeros(3)}))
    refused(path, words="none that `lossgap record` wrote")


def test_a_torn_one(bundle_file: Path, tmp_path: Path) -> None:
    data = bundle_file.read_bytes()
    path = tmp_path / "torn"
    for length in (4, 8, 100, 5_000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        refused(path)
    path.write_bytes(data + b"\0")
    refused(path)


def test_one_that_is_too_large(bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", 100))
        stream.truncate(bundle_module.MAX_BYTES + 1)  # a hole: it takes no room
    refused(path, "bundle-too-large")
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", 2**27))
        stream.truncate(2**27 + 1000)
    refused(path, "bundle-too-large")
    monkeypatch.setattr(bundle_module, "MAX_BYTES", 1000)
    refused(bundle_file, "bundle-too-large")


# ---------------------------------------------------------------------------------------------
# Tampered, with a digest that fits

Arrays = dict[str, Any]
Change = Callable[[dict[str, Any], Arrays], None]


def tampered(source: Path, target: Path, change: Change, sealed: bool = True) -> Path:
    """The bundle with a change, and the digest computed anew unless `sealed` is False."""
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    content, arrays = json.loads(metadata[DOCUMENT]), load(data)
    change(content, arrays)
    text = json.dumps(content)
    seal = digest(text, arrays.items()) if sealed else metadata[DIGEST]
    target.write_bytes(save(arrays, metadata={DOCUMENT: text, DIGEST: seal}))
    return target


def setting(path: str, value: object) -> Change:
    """Sets a value of the document, by its path."""

    def change(content: dict[str, Any], arrays: Arrays) -> None:
        *parents, name = path.split(".")
        place: Any = content
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        place[int(name) if name.isdigit() else name] = value

    return change


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: Mapping[str, Change] = {
    "schema missing": setting("schema", None),
    "config": setting("config.n_layer", 3),
    "config value": setting("config.dropout", 7.0),
    "config unknown": setting("config.evil", 1),
    "config kind": setting("config", [1]),
    "heads": setting("model_args.n_head", 5),
    "layers": setting("model_args.n_layer", 10**9),
    "width": setting("model_args.n_embd", 2**40),
    "vocabulary": setting("model_args.vocab_size", 10**15),
    "long number": setting("first", 10**30),
    "negative": setting("first", -1),
    "float for count": setting("iterations", 8.0),
    "bool for count": setting("first", True),
    "more iterations": setting("iterations", 9),
    "many iterations": setting("iterations", 10**12),
    "losses": setting("losses", [1.0]),
    "loss kind": setting("losses.0", "1.0"),
    "points": setting("points", []),
    "point order": setting("points.0.iter", 9),
    "point parts": setting("points.1.parts", ["weights"]),
    "point parts path": setting("points.1.parts", ["../../etc", "weights", "updated", "gradients", "exp_avg"]),
    "step": setting("points.1.step", 0),
    "scale": setting("points.1.scale", 1e300),
    "lr": setting("points.1.lr", -1.0),
    "direction": setting("points.1.items.0.direction", "sideways"),
    "item name": setting("points.1.items.0.name", "\x1b[2J"),
    "item path": setting("points.1.items.0.name", "../" * 100),
    "exact": setting("points.1.items.0.exact", 2.0),
    "dtype": setting("points.1.items.0.allowances", {"float8": [0.0, 1.0]}),
    "allowance": setting("points.1.items.0.allowances", {"float32": [0.0]}),
    "items": setting("points.1.items", []),
    "no numerics": setting("numerics", {}),
    "device": setting("numerics.device", "../x"),
    "numerics dtype": setting("numerics.dtype", "float8"),
    "threads": setting("numerics.threads", 10**6),
    "compile": setting("numerics.compile", "yes"),
    "corpus": setting("corpus.name", None),
    "corpus path": setting("corpus.path", "/etc/passwd"),
    "split": setting("evaluations.0.split", "test"),
    "name": setting("more", 1),
    "deep": setting("environment", {"a": deep(100)}),
    "text": setting("version", "x" * 20_000),
    "surrogate": setting("environment", {"cpu": "\ud800"}),
    "extra array": lambda content, arrays: arrays.update({"evil": np.zeros(3)}),
    "missing array": lambda content, arrays: arrays.__delitem__("points.1.exp_avg.transformer.wte.weight"),
    "missing windows": lambda content, arrays: arrays.__delitem__("windows"),
    "shape": lambda content, arrays: arrays.update({"windows": arrays["windows"][:, :, :, :-1].copy()}),
    "kind": lambda content, arrays: arrays.update({"windows": arrays["windows"].astype(np.float32)}),
    "no evaluation": lambda content, arrays: arrays.update({"evaluation.val": arrays["evaluation.val"][:0]}),
    "token": lambda content, arrays: arrays["windows"].fill(60_000),
    "nan": lambda content, arrays: arrays["points.0.weights.transformer.wpe.weight"].fill(np.nan),
    "infinity": lambda content, arrays: arrays["points.1.exp_avg_sq.transformer.wpe.weight"].fill(np.inf),
    "nan sketch": lambda content, arrays: arrays["points.1.sketches"].fill(np.nan),
}


SAYS = {
    "extra array": "an array that its document does not know: 'evil'",
    "missing array": "lacks the array 'points.1.exp_avg.transformer.wte.weight'",
    "token": "tokens beyond the vocabulary of 22",
    "nan": "not finite",
    "deep": "nested deeper",
    "layers": "'n_layer' of model_args is 1000000000",
    "item name": "no usable name",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_one(bundle_file: Path, tmp_path: Path, name: str) -> None:
    refused(tampered(bundle_file, tmp_path / "bad", HOSTILE[name]), words=SAYS.get(name, "cannot be used"))


def test_one_with_numbers_that_json_has_not(bundle_file: Path, tmp_path: Path) -> None:
    texts = {
        "NaN": "holds NaN",
        "[-Infinity]": "holds -Infinity",
        "1e999": "too large",
        "9" * 5_000: "too long",
        '{"a": 1, "a": 2}': "a name twice",
        "[" * 100_000: "nested deeper",
        "{": "not JSON",
    }
    for text, words in texts.items():
        arrays = load(bundle_file.read_bytes())
        path = tmp_path / "bad"
        path.write_bytes(save(arrays, metadata={DOCUMENT: text, DIGEST: digest(text, arrays.items())}))
        refused(path, words=words)


def test_one_of_another_version(bundle_file: Path, tmp_path: Path) -> None:
    changed = tampered(bundle_file, tmp_path / "new", setting("schema", "lossgap.bundle/2"))
    assert "lossgap.bundle/2" in refused(changed, "bundle-version")


def test_one_that_was_edited(bundle_file: Path, tmp_path: Path) -> None:
    changed = tampered(bundle_file, tmp_path / "edited", setting("losses.0", 4.0), sealed=False)
    refused(changed, words="does not match its digest")


def test_what_is_sealed_anew_is_read(bundle_file: Path, tmp_path: Path) -> None:
    """The tests above refuse the change, not the way it was made."""
    found = read_bundle(tampered(bundle_file, tmp_path / "new", setting("losses.0", 4.0)))
    assert found.losses[0] == 4.0


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_refused_or_harmless(
    recorded: Bundle, bundle_file: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(bundle_file.read_bytes())
    (header,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, 7), st.integers(8, 8 + header), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path / "damaged"
    path.write_bytes(content)
    try:
        found = read_bundle(path)
    except BundleError:
        refused(path, read_slug(path))
        return
    same(found, recorded)


def read_slug(path: Path) -> str:
    """Of the error: damage may look like another version, or like too large a header."""
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    assert caught.value.slug in ("bad-bundle", "bundle-version", "bundle-too-large")
    return caught.value.slug


def test_tokens_of_large_vocabularies(recorded: Bundle, tmp_path: Path) -> None:
    """More than 65,536 tokens are stored in 32 bits."""

    def wide(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        big = torch.zeros(70_000, recorded.shape.n_embd)
        return {name: big if name == "transformer.wte.weight" else tensor for name, tensor in weights.items()}

    point = recorded.points[0]
    moved = dataclasses.replace(
        point, moment=dataclasses.replace(point.moment, weights=wide(point.moment.weights)), updated=wide(point.updated)
    )
    shape = dataclasses.replace(recorded.shape, vocab_size=70_000)
    windows = recorded.windows + 66_000
    bundle = dataclasses.replace(recorded, shape=shape, windows=windows, points=(moved,))
    write_bundle(bundle, tmp_path / "wide")
    assert torch.equal(read_bundle(tmp_path / "wide").windows, windows)
