"""The one call that changes the process for other code too."""

from __future__ import annotations

import os
import warnings

from dqnrec_lite._checks import check_whole


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's global generator and Keras; make TensorFlow deterministic.

    With it the book's bits and speed are promised: operations become deterministic (`tf.random`
    then wants seeds), and TensorFlow computes each with one thread, unless TF_NUM_INTRAOP_THREADS
    in the environment says otherwise. Two threads share a product of matrices as small as the
    book's more slowly than one computes it. Call it first: once TensorFlow has computed something,
    its threads stay as they are, which is warned of. A `DQN` carries generators of its own and
    needs none of it to learn.

    Raises:
        ValueError: seed is no whole number that NumPy's global generator takes, 0 to 2^32 - 1.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(check_whole("seed", seed, 0, 2**32 - 1))
    tf.config.experimental.enable_op_determinism()
    threads = tf.config.threading
    if "TF_NUM_INTRAOP_THREADS" in os.environ or threads.get_intra_op_parallelism_threads() == 1:
        return
    try:
        threads.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        warnings.warn(
            "seed_everything: TensorFlow has computed already, so its threads stay as they are; "
            "call it before, or the bits may depend on the number of cores",
            stacklevel=2,
        )
