"""Settings for the kernels of .venv, where tools/setup.sh puts this file.

TensorFlow's C++ code writes start-up messages, with times and process ids in them, straight to
file descriptor 2; since 2.21 it does so whatever TF_CPP_MIN_LOG_LEVEL says. They are no result:
they go to the terminal. What Python itself writes to stderr still reaches the notebook.
"""

c = get_config()  # noqa: F821 (IPython provides it)
c.IPKernelApp.capture_fd_output = False
