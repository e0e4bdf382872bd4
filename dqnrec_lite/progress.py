"""Progress bars for everything that takes longer than a few seconds."""

from __future__ import annotations

import os
from typing import Any

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
