"""Records of whole sessions: one row a page, for everything that the mean return does not show."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from dqnrec_lite._checks import check_kind
from dqnrec_lite.envs.shop import ShopEnv, ShopVectorEnv
from dqnrec_lite.evaluation import Policy, play


class SessionLog(NamedTuple):
    """Pages of whole sessions, by session and then by page; arrays of one length.

    The customer's type and satisfaction are hidden from the shop: they serve analysis only.
    """

    session: np.ndarray  # int64, from 0; session i is the same customer for every policy
    page: np.ndarray  # int64, from 0 in each session
    item: np.ndarray  # int64, what was shown
    event: np.ndarray  # int64, index into `encoding.EVENTS`
    reward: np.ndarray  # float64, in euro
    terminated: np.ndarray  # bool: the customer left after this page
    truncated: np.ndarray  # bool: the page limit was reached
    satisfaction_after: np.ndarray  # int64, 0 to 6
    customer_type: np.ndarray  # int64, index into `shop.TYPES`
    observation: np.ndarray  # (pages, observation_size) float32, before the page; or (pages, 0)


def record_sessions(
    policy: Policy,
    envs: gym.Env | VectorEnv,
    episodes: int,
    seed: int | None = None,
    observations: bool = False,
) -> SessionLog:
    """Play whole sessions on the Shop as `evaluate` does, and keep every page.

    With one seed session i is the same customer in every record and every evaluation.

    Args:
        policy: (n, observation_size) float32 -> (n,) integers.
        envs: the Shop, one session or many, wrapped or not.
        episodes: how many sessions.
        seed: of the customers; None: the one that `envs` was made with.
        observations: keep them too (180 bytes a page).

    Raises:
        TypeError, ValueError: as `evaluate`; or envs is not the Shop.
    """
    shop = getattr(envs, "unwrapped", envs)
    check_kind("envs", shop, ShopVectorEnv, ShopEnv)
    parts = []
    for page in play(policy, envs, episodes, seed):
        lanes, step = page.lanes, page.step
        parts.append(
            SessionLog(
                session=page.session,
                page=step.info["page"][lanes],
                item=page.action[lanes],
                event=step.info["event"][lanes],
                reward=step.reward[lanes],
                terminated=step.terminated[lanes],
                truncated=step.truncated[lanes],
                satisfaction_after=step.info["satisfaction"][lanes],
                customer_type=step.info["customer_type"][lanes],
                observation=page.observation[lanes, : None if observations else 0],
            )
        )
    rows = SessionLog(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(rows.session, kind="stable")  # the pages of each are in order already
    return SessionLog(*(column[order] for column in rows))
