"""Ways to spoil bytes and values, all drawn from a seeded generator."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

JUNK = (
    b"",
    b"\0" * 64,
    b"{}",
    b"[]",
    b"null",
    b"hello\n",
    b"\xff\xfe\xfa",
    b"%PDF-1.4\n",
    b"PK\x03\x04",
    b"\x80\x02}q.",
)
NUMBERS = (0, 1, -1, 2, 3, 0.5, -0.5, 7.25, 1e-9, 1e39, -1e39, 1e308, 2**31, 2**63, 2**70, 10**400, math.inf, -math.inf)
TEXTS = (
    *("", " ", "0", "1", "-1", "nan", "inf", "true", "x", "image", "size", "kind", "+", "é", "\u202e", "\ud800", "\0"),
    *("a" * 300, "../..", "/", "con", "*", "a,b", 'a"b', "a\nb", "total", "binary", "continuous", "size,striped"),
)


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """Draw a value of JSON of any shape."""
    plain: list[Callable[[], Any]] = [
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(TEXTS),
        lambda: rng.choice([None, True, False, math.nan]),
    ]
    if depth < 3:
        plain.append(lambda: [odd_value(rng, depth + 1) for _ in range(rng.randrange(4))])
        plain.append(lambda: {rng.choice(TEXTS): odd_value(rng, depth + 1) for _ in range(rng.randrange(4))})
    return rng.choice(plain)()


def spoil_value(rng: random.Random, value: Any) -> Any:
    """Change one place of a nested value: replace, drop, repeat or rename what is there."""
    places = [*_places(value)]
    if not places:
        return odd_value(rng)
    holder, key = rng.choice(places)
    way = rng.randrange(4)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif way == 1:
        holder.append(holder[key])
    else:
        held = holder[key]
        holder[key] = spoil_tensor(rng, held) if isinstance(held, Tensor) else odd_value(rng)
    return value


def spoil_tensor(rng: random.Random, tensor: Tensor) -> Any:
    """Change the shape, the type or the numbers of a tensor."""
    as_float = tensor.float()
    ways: list[Callable[[], Any]] = [
        lambda: as_float * math.nan,
        lambda: as_float + math.inf,
        lambda: as_float * 1e30,
        lambda: as_float.flatten()[:-1],
        lambda: as_float[None],
        lambda: as_float.long(),
        lambda: as_float.bool(),
        lambda: torch.complex(as_float, as_float),
        lambda: as_float.to_sparse(),
        lambda: as_float.tolist(),
        lambda: torch.zeros(0),
    ]
    return rng.choice(ways)()


def spoil_bytes(rng: random.Random, content: bytes) -> bytes:
    """Truncate, flip, cut out, repeat, blank or replace bytes."""
    size = max(len(content), 1)
    a, b = sorted((rng.randrange(size), rng.randrange(size)))
    way = rng.randrange(7)
    if way == 0:
        return content[:a]
    if way == 1:
        flipped = bytearray(content)
        for _ in range(rng.choice([1, 3, 100])):
            if flipped:
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if way == 2:
        return content[:a] + content[b:]
    if way == 3:
        return content + content[a:b]
    if way == 4:
        return content[:a] + bytes(b - a) + content[b:]
    if way == 5:
        return content[:a] + rng.randbytes(rng.choice([1, 20, 400])) + content[a:]
    return rng.choice(JUNK)


def spoil_file(rng: random.Random, path: Path) -> None:
    """Spoil, remove or replace a file; one that is spoilt already may be none any more."""
    way = rng.randrange(8)
    if not path.is_file():
        return
    content = path.read_bytes()
    path.unlink()
    if way == 0:
        path.mkdir()
    elif way == 1:
        path.symlink_to(path.name)
    elif way > 2:
        path.write_bytes(spoil_bytes(rng, content))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """List the holder and the key of every value within a nested one."""
    keys: list[Any] = [*value] if isinstance(value, dict) else [*range(len(value))] if isinstance(value, list) else []
    inner = [place for key in keys for place in _places(value[key])]
    return [(value, key) for key in keys] + inner
