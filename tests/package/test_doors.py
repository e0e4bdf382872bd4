"""What stands at the doors: cures that work when pasted, any network that fits, refusals."""

import re
import warnings

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from test_agent import BOX, SMALL, TWO, filled
from test_sessions import Counting

from dqnrec_lite import DQN, DQNConfig, PocketShop, evaluate, make_shop
from dqnrec_lite.replay import Batch
from dqnrec_lite.sessions import Sessions

QUICK = {"batch_size": 16, "buffer_size": 1000, "learning_starts": 32, "hidden_sizes": (8,)}


# --- Observations of another kind -----------------------------------------------------------------


class Room(gymnasium.Env):
    """Pays 1 for action 1; shows something random of the space that it was made with."""

    action_space = TWO

    def __init__(self, observation_space) -> None:
        self.observation_space = observation_space

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        shown = self.observation_space.sample()
        return shown, float(action), bool(shown_ends(shown)), False, {}


def shown_ends(shown) -> bool:
    """One session in eight steps or so ends, by what is shown."""
    return hash(str(shown)) % 8 == 0


TAXI = max(name for name in gymnasium.registry if name.startswith("Taxi-v"))  # v3, later v4
OTHERS = {
    "FrozenLake": lambda: gymnasium.make("FrozenLake-v1"),
    "Blackjack": lambda: gymnasium.make("Blackjack-v1"),
    "Taxi": lambda: gymnasium.make(TAXI),
    "a window of history": lambda: Room(Box(0, 1, (49, 5))),
    "a number": lambda: Room(Box(0, 1, ())),
    "a dictionary": lambda: Room(Dict(user=Box(0, 1, (3,)), page=Discrete(5))),
}


def pasted(message: str, name: str, env):
    """The environment after the line of code that the message names."""
    code = re.search(rf"{name} = (gymnasium\.wrappers\S*\({name}\))", message)
    assert code, message
    return eval(code[1], {"gymnasium": gymnasium, name: env})  # noqa: S307


@pytest.mark.parametrize("name", OTHERS)
def test_the_refusal_of_other_observations_names_a_cure_that_works_when_pasted(name):
    env = OTHERS[name]()
    with pytest.raises(ValueError, match="observation_space: Box of rank 1 expected") as caught:
        DQN(env.observation_space, env.action_space)
    env = pasted(str(caught.value), "env", env)
    agent = DQN(env.observation_space, env.action_space, DQNConfig(**QUICK, discount=0.5))
    agent.learn(env, 800)
    assert agent.updates > 0
    assert (agent.replay.data.next_action_mask is not None) == (name == "Taxi")
    if name != "Taxi":
        assert len(evaluate(agent.predict, env, 3).returns) == 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("name", OTHERS)
def test_the_cure_works_for_vector_environments_too(name, mode):
    """Gymnasium's own wrapper refuses same-step autoreset."""
    envs = SyncVectorEnv([OTHERS[name]] * 3, autoreset_mode=mode)
    with pytest.raises(ValueError, match="observation_space: Box of rank 1 expected") as caught:
        DQN(envs.single_observation_space, envs.single_action_space)
    with pytest.raises(ValueError, match=r"envs = gymnasium\.wrappers\.vector\."):
        Sessions(envs)
    envs = pasted(str(caught.value), "envs", envs)
    config = DQNConfig(**QUICK, updates_per_transition=0.0)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    agent.learn(envs, 300)
    assert len(agent.replay) == agent.transitions >= 300


class Bandit(VectorEnv):
    """Eight sessions of one step each; the last arm pays `best`, the others `rest`."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    num_envs = 8
    single_observation_space = Box(0, 1, (1,), np.float32)

    def __init__(self, best: float = 1.0, rest: float = 0.0, arms: Discrete = TWO) -> None:
        self.best, self.rest, self.single_action_space = best, rest, arms

    def reset(self, *, seed=None, options=None):
        return np.ones((8, 1), np.float32), {}

    def step(self, actions):
        last = self.single_action_space.start + self.single_action_space.n - 1
        reward = np.where(actions == last, self.best, self.rest)
        shown = np.ones((8, 1), np.float32)
        ended = {"final_obs": shown, "_final_obs": np.ones(8, bool)}
        return shown, reward, np.ones(8, bool), np.zeros(8, bool), ended


@pytest.mark.parametrize("start", [5, -3])
def test_actions_may_start_at_any_number(tmp_path, start):
    envs = Bandit(arms=Discrete(3, start=start))
    actions, looked = range(start, start + 3), np.ones((4, 1))
    config = DQNConfig(**QUICK, learning_rate=0.02, updates_per_transition=0.5)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    assert agent.actions == actions
    agent.learn(envs, 600)
    assert set(agent.replay.data.action[: len(agent.replay)].tolist()) == set(actions)
    np.testing.assert_allclose(agent.q_values(looked), [[0, 0, 1]] * 4, atol=0.1)
    assert agent.predict(looked).tolist() == [start + 2] * 4
    assert evaluate(agent.predict, envs, 8).mean == 1.0
    agent.update(40)
    agent.save(tmp_path)
    loaded = DQN.load(tmp_path)
    assert (loaded.actions, loaded.action_space) == (agent.actions, agent.action_space)
    np.testing.assert_array_equal(loaded.q_values(looked), agent.q_values(looked))
    only = np.array([[False, True, False]] * 4)
    assert loaded.predict(looked, action_mask=only).tolist() == [start + 1] * 4
    with pytest.raises(ValueError, match=rf"policy\[0\]=0: must lie in \[{start}, {start + 3}\)"):
        evaluate(lambda observations: np.zeros(8, int), envs, 8)
    with pytest.raises(ValueError, match="envs: spaces"):
        agent.learn(Bandit(arms=Discrete(3)), 10)


# --- A network of one's own -----------------------------------------------------------------------


def two_towers() -> keras.Model:
    """One tower sees the first three numbers, the other the rest; an action is scored by both."""
    seen = keras.Input((8,))
    user = keras.layers.Dense(6, "relu")(seen[:, :3])
    page = keras.layers.Dense(6, "relu")(seen[:, 3:])
    return keras.Model(seen, keras.layers.Dense(3)(user * page))


def sequence_encoder() -> keras.Model:
    """A GRU over the last 49 events of 5 numbers, which the observation holds flat."""
    seen = keras.Input((245,))
    events = keras.layers.Reshape((49, 5))(seen)
    return keras.Model(seen, keras.layers.Dense(3)(keras.layers.GRU(4)(events)))


def stack() -> keras.Model:
    layers = [keras.layers.Dense(6, "relu"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((8,)), *layers])


@pytest.mark.parametrize("build", [two_towers, sequence_encoder, stack])
def test_any_model_of_the_right_shape_learns_and_is_saved_and_loaded(tmp_path, build):
    size = build().input_shape[1]
    space, three = Box(-10, 10, (size,), np.float32), Discrete(3)
    agent = filled(DQN(space, three, DQNConfig(**QUICK), network=build), 100)
    first = agent.q_network.get_weights()
    for network in (agent.target_network, agent.actor):
        assert all(map(np.array_equal, first, network.get_weights()))
    compiled = []
    monitored = agent.updater._compile

    def compile_watched(*what):
        compiled.append(monitored(*what))
        return compiled[-1]

    agent.updater._compile = compile_watched
    agent.update(40)
    assert compiled[0].function_def.attr["_XlaMustCompile"].b
    moved = [not np.array_equal(a, b) for a, b in zip(first, agent.q_network.get_weights())]  # noqa: B905
    assert all(moved), "a weight that does not learn"
    looked = np.random.default_rng(0).normal(size=(5, size))
    np.testing.assert_allclose(
        agent.q_values(looked), agent.q_network(looked), rtol=1e-3, atol=1e-4
    )
    agent.save(tmp_path)
    loaded = DQN.load(tmp_path, network=build)
    np.testing.assert_array_equal(loaded.q_values(looked), agent.q_values(looked))
    with pytest.raises(ValueError, match="pass network=build, as it was made with"):
        DQN.load(tmp_path)
    for ours, theirs in zip(agent.variables(), loaded.variables(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_network_for_an_agent_that_had_none_of_its_own_is_refused(tmp_path):
    filled(DQN(BOX, TWO, SMALL)).save(tmp_path)
    with pytest.raises(ValueError, match="for this agent pass no network="):
        DQN.load(tmp_path, network=stack)


def test_another_network_than_the_one_saved_is_refused_by_the_files_name(tmp_path):
    space = Box(-10, 10, (8,), np.float32)
    filled(DQN(space, Discrete(3), DQNConfig(**QUICK), network=stack), 50).save(tmp_path)
    with pytest.raises(ValueError, match=r"agent\.npz: damaged"):
        DQN.load(tmp_path, network=two_towers)


ONE = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("build", "kind", "named"),
    [
        (ONE, TypeError, "network: a function expected, got Sequential"),
        ("mlp", TypeError, "network: a function expected, got str"),
        (lambda: ONE, ValueError, "network: a new model expected at each call"),
        (
            lambda: [1, 2],
            TypeError,
            r"network\(\): Functional|network\(\): Model expected, got list",
        ),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), ValueError, r"-> \(2, 2\) expected"),
        (
            lambda: keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]),
            ValueError,
            "incompatible with the layer",
        ),
        (
            lambda: keras.Sequential([keras.layers.Reshape((4, 1)), keras.layers.Dense(2)]),
            ValueError,
            r"\(2, 4\) -> \(2, 2\) expected, got \(2, 4, 2\)",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(build, kind, named):
    with pytest.raises(kind, match=named):
        DQN(BOX, TWO, SMALL, network=build)


# --- Learning from what is stored -----------------------------------------------------------------


def logged(count: int = 500) -> Batch:
    """What a random shopkeeper's log holds: arm 2 of 3 pays 1, in a session of one step."""
    action = np.random.default_rng(0).integers(0, 3, count)
    shown, one = np.ones((count, 1), np.float32), np.ones(count)
    return Batch(shown, action, (action == 2).astype(float), shown, one, one)


def test_a_bandit_is_learnt_from_a_log_without_an_environment():
    config = DQNConfig(**QUICK, learning_rate=0.02)
    agent = DQN(Box(0, 1, (1,), np.float32), Discrete(3), config)
    agent.replay.add(logged())
    first = agent.update(100)
    assert agent.update(300) < 0.2 * first
    assert agent.updates == 400
    np.testing.assert_allclose(agent.q_values(np.ones((1, 1))), [[0, 0, 1]], atol=0.05)
    assert agent.predict(np.ones((1, 1))) == 2


def test_a_log_that_cannot_be_learnt_from_is_refused():
    agent = DQN(Box(0, 1, (1,), np.float32), TWO, DQNConfig(**QUICK))
    with pytest.raises(ValueError, match="empty"):
        agent.update(1)
    for count in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match="count="):
            agent.update(count)
    agent.replay.add(logged())
    with pytest.raises(ValueError, match=r"replay: stored actions \[2\] are not in range\(0, 2\)"):
        agent.update(1)
    assert agent.updates == 0


# --- Rewards out of reach -------------------------------------------------------------------------


def bandit_agent(divide: float = 1.0):
    envs = Bandit(-9_999 / divide, -10_000 / divide)
    config = DQNConfig(discount=0.0, learning_rate=1e-3, updates_per_transition=0.05)
    return DQN(envs.single_observation_space, envs.single_action_space, config), envs


def test_rewards_out_of_reach_are_told_with_a_cure_that_works():
    agent, envs = bandit_agent()
    with pytest.warns(UserWarning, match="learn: rewards are 1e\\+04 in size") as caught:
        agent.learn(envs, 8000)
    message = str(caught[0].message)
    assert re.search(r"the values are \d.*, and their targets lie \S+ away", message), message
    divide = float(re.search(r"Divide the rewards by (\S+),", message)[1])
    for name in re.search(r"or raise (.*)", message)[1].replace(" or ", " ").split(", "):
        for setting in name.split():
            assert setting == "total_steps" or setting.split(".")[-1] in DQNConfig.__annotations__
    agent, envs = bandit_agent(divide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(envs, 8000)
    np.testing.assert_allclose(agent.q_values(np.ones((1, 1))) * divide, -10_000, rtol=0.02)


def test_a_call_without_a_gradient_step_is_told():
    agent, envs = bandit_agent(1e4)
    with pytest.warns(
        UserWarning, match=r"learn: 904 transitions are stored, fewer than .*_starts=1000"
    ):
        agent.learn(envs, 900)
    assert agent.updates == 0


WELL_TUNED = {
    "Shop": (lambda: make_shop(64), {}, 10_000),
    "PocketShop": (lambda: PocketShop().vector(32), {}, 8_000),
    "CartPole": (
        lambda: gymnasium.make_vec("CartPole-v1", 8),
        {"updates_per_transition": 0.5},
        6_000,
    ),
    "myopic": (lambda: make_shop(64), {"discount": 0.0}, 10_000),
    "Huber": (lambda: make_shop(64), {"loss": "huber"}, 10_000),
}


@pytest.mark.parametrize("name", WELL_TUNED)
def test_a_well_tuned_training_warns_of_nothing(name):
    make, changes, steps = WELL_TUNED[name]
    envs = make()
    config = DQNConfig(**{"updates_per_transition": 0.1} | changes)
    agent = DQN(envs.single_observation_space, envs.single_action_space, config)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="learn:")
        agent.learn(envs, steps)
    assert agent.updates >= 100, "too few to tell"


# --- What environments and policies may do wrong --------------------------------------------------


class Liar(VectorEnv):
    """Two sessions that never end; the third step answers with `what` in place of what is right."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    num_envs, single_observation_space, single_action_space = 2, BOX, TWO

    def __init__(self, place: int, what) -> None:
        self.place, self.what, self.steps = place, what, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 4), np.float32), {}

    def step(self, actions):
        self.steps += 1
        answer = [np.zeros((2, 4), np.float32), np.ones(2), np.zeros(2, bool), np.zeros(2, bool)]
        if self.steps == 3:
            answer[self.place] = self.what
        return *answer, {}


LIES = {
    "observation": [
        np.full((2, 4), np.nan), np.full((2, 4), -np.inf), np.full((2, 4), 1e39), np.zeros((2, 3)),
        np.zeros(4), np.zeros((3, 4)), np.zeros((2, 4), complex), None, "four", [[0, 0], [0]],
    ],
    "reward": [
        np.array([1, np.nan]), np.array([np.inf, 1]), np.array([1e39, 1]), np.ones(3), 1.0, None,
        np.array(["1", "2"]), np.ones((2, 1)), [1, [2]], np.array([1j, 2]),
    ],
    "terminated": [np.zeros(2), np.zeros(3, bool), None, False, "no", [[True], [False]]],
    "truncated": [np.zeros(2, int), np.zeros(1, bool), None, np.array(["no", "no"])],
}  # fmt: skip


def test_whatever_an_environment_answers_wrong_is_refused_by_name_and_nothing_half_written():
    wrong = []
    for place, name in enumerate(LIES):
        for what in LIES[name]:
            agent = DQN(BOX, TWO, DQNConfig(**QUICK, updates_per_transition=0.0))
            try:
                agent.learn(Liar(place, what), 20)
                wrong.append(f"{name}={what!r} was taken")
            except ValueError as error:
                if not str(error).startswith(name):
                    wrong.append(f"{name}={what!r}: {error}")
            if (len(agent.replay), agent.transitions) != (4, 4):
                wrong.append(f"{name}={what!r} is half-written")
    assert not wrong, "\n".join(wrong)


class Wandering(Counting):
    """Its second reset shows what is no number. `Counting` otherwise, cut off after six steps."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation * (np.nan if self.session == 1 else 1.0), info


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_what_is_no_number_after_a_reset_is_refused_in_every_mode(mode):
    """A single environment and mode DISABLED are reset by a mask, the others by themselves."""

    lanes = [Counting, Wandering]
    envs = Wandering() if mode is None else SyncVectorEnv(lanes, autoreset_mode=mode)
    sessions = Sessions(envs)
    sessions.reset(seed=0)
    for _ in range(5):
        sessions.step(np.zeros(sessions.num_envs, int))

    def go_on():
        for _ in range(3):  # the sixth step is the last; next-step autoreset resets in the seventh
            sessions.step(np.zeros(sessions.num_envs, int))

    with pytest.raises(ValueError, match=r"^observation\[\d, 0\] is nan: must be finite"):
        go_on()
    assert np.isfinite(sessions.observations).all(), "handed out to be acted on"


def test_whatever_a_policy_answers_wrong_is_refused_by_name():
    answers = [
        None, 0, np.zeros(2, int), np.zeros((3, 1), int), np.zeros(3), np.full(3, np.nan), "abc",
        np.full(3, -1), np.full(3, 6), np.full(3, 2**40), [0, 0, None], np.zeros(3, bool),
        [[0], [0, 1]],
    ]  # fmt: skip
    wrong = []
    for answer in answers:
        try:
            evaluate(lambda observations: answer, SyncVectorEnv([Counting] * 3), 3)  # noqa: B023
            wrong.append(f"{answer!r} was taken")
        except ValueError as error:
            if not str(error).startswith("policy"):
                wrong.append(f"{answer!r}: {error}")
    assert not wrong, "\n".join(wrong)
