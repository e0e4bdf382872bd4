"""Run the notebooks again as other machines would compute them, strict as `make test` is.

    python tools/numerics.py                                    all notebooks, all variants
    python tools/numerics.py --notebooks 05_bellman_targets --variants default avx

A variant is a set of environment variables. Whether they act is not taken on trust: a probe runs in
a kernel under each, and the bits of its results must differ from the default's where the variant
says so. What this machine cannot show is skipped, with the reason. Two notebooks run at a time.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build" / "numerics"
FOUND = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # beyond NumPy's baseline
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
AT_A_TIME = min(2, CORES)
OPENBLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

# None: the variable is removed. A network's small products go through oneDNN's own matrix product
# even with TF_ENABLE_ONEDNN_OPTS=0; the second variable turns that off as well.
VARIANTS: dict[str, dict[str, str | None]] = {
    "default": {},
    "own-blas": dict.fromkeys(OPENBLAS),
    "no-onednn": {"TF_ENABLE_ONEDNN_OPTS": "0", "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL": "0"},
    "threads": {  # the other way round than by default
        "TF_NUM_INTRAOP_THREADS": "0",  # as many as there are cores; XLA's too
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    },
    "avx2": {  # a processor of 2013 to 2017, as many rented machines are
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in FOUND if name != "X86_V3"),
        "OPENBLAS_CORETYPE": "Haswell",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
    "avx": {  # one of 2011, without fused multiply-add; TensorFlow's wheels need no less
        "NPY_DISABLE_CPU_FEATURES": " ".join(FOUND),
        "OPENBLAS_CORETYPE": "Sandybridge",
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX",
    },
}

# What each must change to count as in force, by the probe's names.
MUST_CHANGE = {
    "own-blas": ["OpenBLAS"],
    "no-onednn": ["small network", "large network", "compiled DQN"],
    "threads": ["OpenBLAS", "large network"],
    "avx2": ["NumPy", "large network"],
    "avx": ["NumPy", "OpenBLAS", "small network", "large network", "compiled DQN"],
}

PROBE = """
import hashlib, json
import gymnasium, keras, numpy as np, tensorflow as tf
from dqnrec_lite import DQN, DQNConfig

def bits(*arrays):
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]

def trained(width):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, "relu"), keras.layers.Dense(width, "relu")]
    network = keras.Sequential([*layers, keras.layers.Dense(5)])
    network.compile("adam", "mse")
    network.fit(small, small[:, :5], batch_size=64, epochs=1, verbose=0)
    return bits(*network.get_weights())

rng = np.random.default_rng(0)
small, large = (rng.normal(size=shape).astype(np.float32) for shape in ((256, 50), (700, 900)))
envs = gymnasium.make_vec("CartPole-v1", num_envs=8, vectorization_mode="sync")
spaces = envs.single_observation_space, envs.single_action_space
agent = DQN(*spaces, DQNConfig(seed=0, learning_starts=100, buffer_size=1000))
agent.learn(envs, 1000, progress=False)
print(json.dumps({
    "NumPy": bits(np.exp(small), np.exp(small.astype(float)), np.log(np.abs(small))),
    "OpenBLAS": bits(large @ large.T, small.T @ small),
    "small network": trained(32),
    "large network": trained(1024),
    "compiled DQN": bits(*agent.q_network.get_weights()),
}))
"""


def environment(variant: str) -> dict[str, str]:
    settings = os.environ | {"TQDM_DISABLE": "1"} | VARIANTS[variant]
    return {name: value for name, value in settings.items() if value is not None}


def cannot_show(variant: str) -> str | None:
    """Why this machine computes the variant as it does the default; None if it need not."""
    if variant in ("avx2", "avx"):
        if platform.machine().lower() not in ("x86_64", "amd64"):
            return f"instruction sets of x86-64, and this processor is {platform.machine()}"
        level, name = ("X86_V4", "AVX-512") if variant == "avx2" else ("X86_V3", "AVX2")
        return None if level in FOUND else f"this processor has no {name} to turn off"
    if variant == "threads" and CORES < 2:
        return "only one core here"
    if variant == "own-blas" and not any(name in os.environ for name in OPENBLAS):
        return "the default leaves OpenBLAS its choice"
    return None


def probe(variant: str) -> dict[str, str]:
    """Digests of computations in a kernel that is started as nbval starts them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROBE)])
    # With the flag the kernel leaves TensorFlow's messages from C++ where we send them: nowhere.
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    )
    client.execute(env=environment(variant), stderr=subprocess.DEVNULL)
    return json.loads(next(o.text for o in notebook.cells[0].outputs if o.get("name") == "stdout"))


def run(variant: str, notebook: str) -> dict[str, object]:
    """One notebook under one variant: its seconds, and the cells that failed."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    command += ["--nbval-current-env", "--nbval-cell-timeout=300", f"notebooks/{notebook}.ipynb"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(variant), capture_output=True, text=True
    )
    seconds = round(time.perf_counter() - start, 1)
    cells = [int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", result.stdout, re.M)]
    failed = result.returncode != 0
    outcome = "passed"
    if failed:
        log = BUILD / f"{variant}-{notebook}.log"
        log.write_text(result.stdout + result.stderr, encoding="utf-8")
        outcome = f"FAILED, code cells {cells}: see {log.relative_to(ROOT)}"
    print(f"{variant:12s} {notebook:34s} {seconds:6.1f} s  {outcome}", flush=True)
    return {"seconds": seconds, "failed": failed, "failed_cells": cells}


def prove(variant: str, default: dict[str, str]) -> dict[str, object]:
    """Whether a variant is in force here: what it changes, and why it is skipped or fails."""
    row: dict[str, object] = {"settings": VARIANTS[variant], "notebooks": {}}
    if variant == "default":
        return row | {"probe": default}
    if reason := cannot_show(variant):
        return row | {"skipped": reason}
    bits = probe(variant)
    changed = [name for name, digest in bits.items() if digest != default[name]]
    row |= {"probe": bits, "changed": changed}
    if variant == "own-blas" and not changed:
        return row | {"skipped": "OpenBLAS would choose the kernels that it is told to use"}
    if missing := sorted(set(MUST_CHANGE[variant]) - set(changed)):
        return row | {"not_in_force": f"no bit changed in: {', '.join(missing)}"}
    return row


def prove_all(variants: list[str]) -> dict[str, dict]:
    """`prove` for each, with one line each."""
    default = probe("default")
    report = {}
    for variant in variants:
        row = report[variant] = prove(variant, default)
        if "skipped" in row:
            line = f"SKIPPED: {row['skipped']}"
        elif "not_in_force" in row:
            line = f"FAILED, its settings do not act: {row['not_in_force']}"
        else:
            line = f"changes bits in: {', '.join(row.get('changed', ['nothing']))}"
        print(f"{variant:12s} {line}", flush=True)
    return report


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return re.search(r"^model name\s*:\s*(.*)$", lines, re.M)[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def choose(parser: argparse.ArgumentParser, what: str, asked: list[str], known: list[str]):
    """The asked names, or all; the parser stops on one that does not exist."""
    if unknown := sorted(set(asked) - set(known)):
        parser.error(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in asked] or known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebooks", nargs="*", default=[], help="default: all")
    parser.add_argument("--variants", nargs="*", default=[], help=f"of {', '.join(VARIANTS)}")
    asked = parser.parse_args()
    known = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    notebooks = choose(parser, "notebook", [Path(n).stem for n in asked.notebooks], known)
    variants = choose(parser, "variant", asked.variants, list(VARIANTS))

    BUILD.mkdir(parents=True, exist_ok=True)
    print(f"{processor()}, {CORES} cores; NumPy finds {' '.join(FOUND) or 'its baseline only'}.")
    report = prove_all(variants)
    running = [name for name in variants if not {"skipped", "not_in_force"} & set(report[name])]
    failed = sum("not_in_force" in row for row in report.values())
    pairs = [(variant, notebook) for variant in running for notebook in notebooks]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for (variant, notebook), row in zip(pairs, pool.map(lambda p: run(*p), pairs), strict=True):
            report[variant]["notebooks"][notebook] = row
            failed += bool(row["failed"])

    print(f"\n{'seconds':34s}" + "".join(f"{variant:>12s}" for variant in running))
    for notebook in notebooks:
        rows = [report[variant]["notebooks"][notebook] for variant in running]
        cells = ["FAILED" if row["failed"] else f"{row['seconds']:.1f}" for row in rows]
        print(f"{notebook:34s}" + "".join(f"{cell:>12s}" for cell in cells))
    for variant in variants:
        for why in ("skipped", "not_in_force"):
            if why in report[variant]:
                print(f"{variant} did not run: {report[variant][why]}.")
    packages = ("numpy", "scipy", "tensorflow", "keras")
    facts = {
        "processor": processor(),
        "cores": CORES,
        "instructions": FOUND,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "at_a_time": AT_A_TIME,
        "variants": report,
    }
    path = ROOT / "_build" / "numerics.json"
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT)} holds these figures. ", end="")
    print(f"FAILED: {failed}." if failed else f"All {len(pairs)} runs passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
