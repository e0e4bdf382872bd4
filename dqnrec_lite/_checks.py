"""Checks of arguments. What is refused is named, with what came and what is allowed."""

from __future__ import annotations

import os
import reprlib
import sys
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

_LARGEST = sys.float_info.max
MANY = 2**24  # sessions or pages: more than any machine plays, fewer than it cannot even store


def check_whole(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """A whole number, no bool, from low to high (both allowed; None: no end), as an int."""
    right = isinstance(value, Integral) and not isinstance(value, bool)
    if not right or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name}={_shown(value)}: a whole number {allowed} expected")
    return int(value)


def check_number(name: str, value: Any, low: float = -_LARGEST, high: float = _LARGEST) -> float:
    """A finite number, no bool, from low to high (both allowed), as a float."""
    right = isinstance(value, Real) and not isinstance(value, bool)
    if not right or not low <= value <= high:
        allowed = f"a number in [{low}, {high}]" if high < _LARGEST else "a finite number"
        if low > -_LARGEST and high == _LARGEST:
            allowed += f" of at least {low}"
        raise ValueError(f"{name}={_shown(value)}: {allowed} expected")
    return float(value)


def check_sizes(name: str, sizes: Any) -> tuple[int, ...]:
    """Units of layers: a tuple or list of positive whole numbers, none of them enormous."""
    if not isinstance(sizes, (tuple, list)) or not all(
        isinstance(n, Integral) and not isinstance(n, bool) and 0 < int(n) <= 2**16 for n in sizes
    ):
        raise ValueError(f"{name}={_shown(sizes)}: positive whole numbers up to 65536 expected")
    return tuple(int(n) for n in sizes)


def check_bool(name: str, value: Any) -> bool:
    """True or False, and no 0 or 1."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={_shown(value)}: True or False expected")
    return value


def check_choice(name: str, value: Any, *choices: str) -> str:
    """One of these words."""
    if not isinstance(value, str) or value not in choices:
        told = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name}={_shown(value)}: {told} expected")
    return value


def check_kind(name: str, value: Any, *kinds: type) -> None:
    """A TypeError unless value is an instance of one of the classes."""
    if not isinstance(value, kinds):
        allowed = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name}: {allowed} expected, got {type(value).__name__}")


def check_callable(name: str, value: Any) -> None:
    """A TypeError unless value can be called."""
    if not callable(value):
        raise TypeError(f"{name}: a function expected, got {type(value).__name__}")


def check_path(name: str, value: Any) -> Path:
    """A path; a TypeError unless value is a str or an `os.PathLike`."""
    check_kind(name, value, str, os.PathLike)
    return Path(value)


def check_array(
    name: str, values: Any, shape: tuple[int | str, ...] | None = None, kinds: str = "fiub"
) -> np.ndarray:
    """Finite numbers as an array, not copied if they are one.

    Args:
        name: of the argument, for the message.
        values: what came.
        shape: allowed; a word in it stands for any length. None: any shape.
        kinds: allowed kinds of dtype, NumPy's letters.

    Raises:
        ValueError: the numbers are none, of another kind or shape, or not finite in float32.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name}: an array expected, got {_shown(values)} ({error})") from error
    fits = (
        shape is None
        or shape == array.shape
        or (
            array.ndim == len(shape)
            and all(isinstance(s, str) or s == n for s, n in zip(shape, array.shape, strict=True))
        )
    )
    if not fits or array.dtype.kind not in kinds:
        noun = {"iu": "integers", "b": "bools"}.get(kinds, "numbers")
        allowed = noun if shape is None else f"{_shape(shape)} {noun}"
        raise ValueError(f"{name}: {allowed} expected, got {array.dtype} of shape {array.shape}")
    if array.dtype.kind not in "iub":
        check_finite(name, array)
    return array


def check_finite(name: str, array: np.ndarray) -> None:
    """A ValueError that says where, if an array of numbers holds NaN or what float32 cannot."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(array, np.float32))
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        place = list(where) if where else ""
        raise ValueError(f"{name}{place} is {array[where]}: must be finite in float32")


def check_integers(
    name: str, values: Any, shape: tuple[int | str, ...] | None, bound: int
) -> np.ndarray:
    """Integers in [0, bound) as an int64 array, or a ValueError that says what is wrong."""
    array = check_array(name, values, shape, "iu")
    wrong = array.astype(np.uint64) >= bound  # negative ones become the largest
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}{list(where)}={array[where]}: must lie in [0, {bound})")
    return array.astype(np.int64, copy=False)


def check_flags(name: str, values: Any, shape: tuple[int | str, ...] | None = None) -> np.ndarray:
    """Bools, or numbers that are 0 or 1; a ValueError that says where one is something else."""
    array = check_array(name, values, shape)
    wrong = np.argwhere((array != 0) & (array != 1))
    if wrong.size:
        where = tuple(int(i) for i in wrong[0])
        raise ValueError(f"{name}{list(where)}={array[where]}: must be 0 or 1")
    return array


def check_shapes(**arrays: Any) -> None:
    """A ValueError that names them, if NumPy cannot broadcast the arrays together."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes that fit together expected, got {told}") from error


def check_observations(observations: Any, size: int) -> np.ndarray:
    """A batch of observations as (batch, size) float32, or a ValueError that says what is wrong."""
    array = check_array("observations", observations, ("batch", size))
    return np.ascontiguousarray(array, np.float32)


def check_actions(
    name: str, values: Any, count: int, actions: range, mask: np.ndarray | None = None
) -> np.ndarray:
    """(count,) actions, each one of `actions` and allowed by the mask, as int64."""
    array = check_array(name, values, (count,), "iu")
    wrong = (array < actions.start) | (array >= actions.stop)
    if wrong.any():
        where = int(np.argmax(wrong))
        raise ValueError(
            f"{name}[{where}]={array[where]}: must lie in [{actions.start}, {actions.stop})"
        )
    array = array.astype(np.int64, copy=False)
    if mask is not None:
        forbidden = ~mask[np.arange(count), array - actions.start]
        if forbidden.any():
            where = int(np.argmax(forbidden))
            raise ValueError(f"{name}[{where}]={array[where]}: the action mask forbids it there")
    return array


def check_mask(
    name: str, mask: Any, shape: tuple[int | str, ...], asked: np.ndarray | None = None
) -> np.ndarray:
    """Which actions are allowed, as bools of `shape`, (batch, actions).

    Args:
        name: of the argument, for the message.
        mask: what came, 0 and 1 of any kind.
        shape: allowed.
        asked: (batch,) bool, the rows that count; in the others all is allowed. None: all count.

    Raises:
        ValueError: other values, another shape, or a row that counts and allows nothing.
    """
    allowed = check_flags(name, mask, shape).astype(bool)
    if asked is not None:
        allowed = allowed | ~asked[:, None]
    if not allowed.any(axis=-1).all():
        where = int(np.argmin(allowed.any(axis=-1)))
        raise ValueError(f"{name}[{where}]: at least one action must be allowed, none is")
    return allowed


_FLATTEN = {
    "env": "env = gymnasium.wrappers.FlattenObservation(env)",
    "envs": "envs = gymnasium.wrappers.vector.FlattenObservation(envs)",
}


def check_spaces(observation_space: Any, action_space: Any, *origins: str) -> tuple[int, range]:
    """Observation size and the actions; the spaces must be a Box of rank 1 and Discrete.

    Args:
        observation_space: of one session.
        action_space: of one session.
        *origins: what they may come from: a single "env", a vector "envs".

    Raises:
        ValueError: they are something else; says how to mend it where that can be done.
    """
    rank = len(observation_space.shape) if isinstance(observation_space, gym.spaces.Box) else None
    if rank in (2, 3) and observation_space.dtype == np.uint8:
        raise ValueError(f"observation_space: numbers expected, {observation_space} are images")
    if rank != 1 or not observation_space.shape[0]:
        cure = ", or of a vector ".join(_FLATTEN[origin] for origin in origins)
        raise ValueError(
            f"observation_space: Box of rank 1 expected, got {observation_space}; "
            f"to flatten it: {cure}"
        )
    if not isinstance(action_space, gym.spaces.Discrete):
        raise ValueError(f"action_space: Discrete expected, got {action_space}")
    first = int(action_space.start)
    return int(observation_space.shape[0]), range(first, first + int(action_space.n))


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except Exception:  # the value's own __repr__, or a number of more digits than Python writes
        return f"({type(value).__name__})"
