"""What all tests share: a quiet TensorFlow, no progress bars, pictures drawn without a screen."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TQDM_DISABLE", "1")

import matplotlib

# Not through MPLBACKEND: the kernels that nbval starts would inherit it, and they draw inline.
matplotlib.use("Agg")
