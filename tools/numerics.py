"""Run the notebooks again as other processors would compute them, strict as `make test` is.

    python tools/numerics.py                                    all notebooks, all variants
    python tools/numerics.py --notebooks 05_bellman_targets --variants default avx

A variant is a set of environment variables. What this machine cannot show is skipped, with the
reason.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from check import NBVAL, PYTEST, TIMED
from stored import ROOT

FOUND = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # beyond NumPy's baseline
AT_A_TIME = 2
OPENBLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

# None: the variable is removed. A network's small products go through oneDNN's own matrix product
# even with TF_ENABLE_ONEDNN_OPTS=0; the second variable turns that off as well.
VARIANTS: dict[str, dict[str, str | None]] = {
    "default": {},
    "own-blas": dict.fromkeys(OPENBLAS),
    "no-onednn": {"TF_ENABLE_ONEDNN_OPTS": "0", "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL": "0"},
    "threads": {  # the other way round than `seed_everything` and OpenBLAS have it
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
# What a processor computes with anyway is no variant of it.
CANNOT_SHOW = {
    "own-blas": ("OpenBLAS chooses its kernels anyway", not {*OPENBLAS} & {*os.environ}),
    "threads": ("one core has no second thread", os.cpu_count() == 1),
    "avx2": ("NumPy finds no AVX-512 here to turn off", "X86_V4" not in FOUND),
    "avx": ("NumPy finds no AVX2 here to turn off", "X86_V3" not in FOUND),
}


def run(variant: str, notebook: str) -> bool:
    """One notebook under one variant, as `make test` runs it: has it passed?"""
    settings = os.environ | {"TQDM_DISABLE": "1"} | VARIANTS[variant]
    settings = {name: value for name, value in settings.items() if value is not None}
    command = [*PYTEST, *NBVAL, "-q", "-p", "no:cacheprovider", f"notebooks/{notebook}.ipynb"]
    start = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    seconds, outcome = time.perf_counter() - start, "passed"
    if result.returncode:
        log = ROOT / "_build" / "numerics" / f"{variant}-{notebook}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(result.stdout + result.stderr, encoding="utf-8")
        cells = " ".join(re.findall(r"^FAILED .*::Cell (\d+)", result.stdout, re.MULTILINE))
        outcome = f"FAILED, code cells {cells}: see {log.relative_to(ROOT)}"
    print(f"{variant:12s}{notebook:34s}{seconds:6.1f} s  {outcome}", flush=True)
    return not result.returncode


def main() -> int:
    known = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--notebooks", nargs="*", choices=known, metavar="NAME", help="default: all"
    )
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, help="default: all")
    asked = parser.parse_args()
    pairs = []
    for variant in asked.variants or VARIANTS:
        reason, applies = CANNOT_SHOW.get(variant, ("", False))
        if applies:
            print(f"{variant:12s}skipped: {reason}", flush=True)
        else:
            pairs += [(variant, notebook) for notebook in asked.notebooks or known]
    timed = [pair for pair in pairs if f"notebooks/{pair[1]}.ipynb" in TIMED]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        passed = list(pool.map(lambda pair: run(*pair), [p for p in pairs if p not in timed]))
    passed += [run(*pair) for pair in timed]  # each has the machine to itself
    print(f"{sum(passed)} of {len(passed)} runs passed.")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
