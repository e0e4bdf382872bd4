"""Progress bars for everything that takes longer than a few seconds."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import numpy as np
from tqdm.auto import tqdm


def progress_bar(
    items: Any = None,
    *,
    total: int | None = None,
    initial: int = 0,
    unit: str,
    show: bool = True,
) -> Any:
    """A tqdm bar over `items`, or to be updated by hand from `initial` to `total`.

    It shows what is done, the speed and the time left; `set_postfix_str` adds the rest.

    `TQDM_DISABLE=1` in the environment hides it (tqdm's notebook bar does not heed that by itself).
    """
    hidden = not show or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(items, total=total, initial=initial, unit=unit, disable=hidden, leave=False)


class RecentReturn:
    """Mean return of the sessions that ended last, as a bar shows it.

    Args:
        num_envs: sessions side by side (n).
        kept: over how many the mean goes.
    """

    def __init__(self, num_envs: int, kept: int = 500) -> None:
        self.running = np.zeros(num_envs)
        self.ended: deque[float] = deque(maxlen=kept)

    def add(self, reward: np.ndarray, over: np.ndarray) -> None:
        """One step of all sessions: rewards, (n,), and where a session ended, (n,) bool."""
        self.running += reward
        self.ended.extend(self.running[over])
        self.running[over] = 0.0

    def __str__(self) -> str:
        return f"return {np.mean(self.ended):.3g}" if self.ended else "return ?"
