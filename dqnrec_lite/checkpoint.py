"""A state and its arrays in one file, without pickle; a kill at any moment leaves one whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np

from dqnrec_lite._checks import check_path

LAST, PREVIOUS = "agent.npz", "agent.previous.npz"


def write(
    directory: str | os.PathLike[str], state: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write `directory`/agent.npz.

    The file is written under another name and then renamed; the file before it is kept as
    agent.previous.npz, unless it is torn. So from the first save on one of the two is whole at
    every moment, whatever kills the process.

    Args:
        directory: a folder, made if it is not there.
        state: what JSON can hold.
        arrays: by name, none of them called "state".
    """
    folder = check_path("directory", directory)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "agent.npz.tmp"
    with open(temporary, "wb") as file:
        np.savez(file, state=np.array(json.dumps(state)), **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())  # a power cut after the renaming must find the contents too
    if is_zipfile(folder / LAST):  # else it is missing, or torn: the one before it is better
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(temporary, folder / LAST)
    if os.name == "posix":  # the new names too must outlive a power cut
        names = os.open(folder, os.O_RDONLY)
        os.fsync(names)
        os.close(names)


def path_of(directory: str | os.PathLike[str], previous: bool = False) -> Path:
    """The file that `write` wrote last, or with `previous` the one it wrote before.

    Raises:
        FileNotFoundError: there is none; says whether there is a previous one.
    """
    path = check_path("directory", directory) / (PREVIOUS if previous else LAST)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: nothing was saved here{_advice(path)}")
    return path


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The state and the arrays of a file.

    Raises:
        ValueError: it is damaged, or `write` did not make it.
    """
    with blaming(path), np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
        return dict(json.loads(str(arrays.pop("state")))), arrays


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """What goes wrong inside is the file's fault: it does not hold what it should.

    Raises:
        ValueError: names the file, and the save before it, if there is one.
    """
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # zipfile, NumPy, JSON and Gymnasium each have their own
        told = f"{path}: damaged, or not a saved agent ({error}){_advice(path)}"
        raise ValueError(told) from error


def _advice(path: Path) -> str:
    if path.name == PREVIOUS or not path.with_name(PREVIOUS).is_file():
        return ""
    folder = str(path.parent)
    return f"; {PREVIOUS} holds the save before it: DQN.load({folder!r}, previous=True)"
