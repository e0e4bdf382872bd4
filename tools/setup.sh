#!/bin/sh
# Make .venv: the exact versions of requirements.lock, and this package on top in editable form.
# Every make target calls this first; when nothing has changed it returns at once.
# `PYTHON=python3.12 make book` chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'set-up: %s\n' "$*"; }
stop() { printf '\nset-up stopped: %s\n' "$*" >&2; exit 1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { case "$(version "$1")" in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac; }
venv_fits() {
    fits .venv/bin/python || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version .venv/bin/python)" = "$(version "$PYTHON")" ]
}

# The stamp names what the finished set-up was made from, so a half-finished one never counts.
wanted="$(cksum requirements.lock pyproject.toml tools/setup.sh tools/ipython_kernel_config.py; pwd)"
if [ "$(cat .venv/.ready 2>/dev/null)" = "$wanted" ] && venv_fits; then exit 0; fi
rm -f .venv/.ready

if ! cmp -s requirements.lock .venv/requirements.lock || ! venv_fits; then
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || stop "PYTHON=$PYTHON is not a command on this machine."
        fits "$PYTHON" ||
            stop "PYTHON=$PYTHON is Python $(version "$PYTHON"); the book needs 3.11, 3.12 or 3.13."
        python=$PYTHON
    else
        python=
        for candidate in python3 python3.13 python3.12 python3.11; do
            if fits "$candidate"; then python=$candidate; break; fi
        done
        if [ -z "$python" ]; then
            found="Python was not found"
            if other="$(version python3)"; then found="python3 is Python $other"; fi
            stop "$found; the book needs 3.11, 3.12 or 3.13.
Debian, Ubuntu:  sudo apt install python3 python3-venv
Where the system's python3 is another version, install one of these beside it and name it:
                 PYTHON=python3.12 make book"
        fi
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package="python$(version "$python")-venv"
        if [ "$python" = python3 ]; then package=python3-venv; fi
        stop "$python cannot make virtual environments: its venv module is missing.
Debian, Ubuntu:  sudo apt install $package"
    fi

    say "1 of 3, making .venv with Python $(version "$python")"
    "$python" -m venv --clear .venv || stop "could not make .venv with $python (see above)."
    say "2 of 3, installing $(grep -c '==' requirements.lock) packages at the versions of" \
        "requirements.lock (the first time this fetches some 700 MB)"
    .venv/bin/python -m pip install --disable-pip-version-check --require-hashes \
        --requirement requirements.lock ||
        stop "pip could not install the packages (see above). Is the network up? Run make again."
    cp requirements.lock .venv/requirements.lock
fi

say "3 of 3, installing dqnrec_lite from this folder"
mkdir -p .venv/etc/ipython
cp tools/ipython_kernel_config.py .venv/etc/ipython/
.venv/bin/python -m pip install --disable-pip-version-check --quiet \
    --no-deps --no-build-isolation --editable . || stop "could not install dqnrec_lite (see above)."
printf '%s\n' "$wanted" >.venv/.ready
say "done"
