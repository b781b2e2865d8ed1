#!/bin/sh
# Put in reach what the Makefile needs: `setup.sh python` makes .venv from the hashed requirements, `setup.sh tools`
# the external programs, `setup.sh collector` the OpenTelemetry Collector. Says what it installs; does nothing where the
# pieces already are.
set -eu
cd "$(dirname "$0")/.."

# program, Debian package, where else to get it
TOOLS="
prometheus|prometheus|https://prometheus.io/download (2.42 or later)
promtool|prometheus|https://prometheus.io/download (2.42 or later)
prometheus-alertmanager|prometheus-alertmanager|https://prometheus.io/download (alertmanager on the PATH as prometheus-alertmanager)
amtool|prometheus-alertmanager|https://prometheus.io/download (with alertmanager)
"

have() { command -v "$1" >/dev/null 2>&1; }

can_apt() { have apt-get && [ "$(id -u)" = 0 ]; }

apt_install() {
    echo "setup: installing with apt-get: $*"
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
        >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        echo "setup: apt-get could not install $*" >&2
        exit 1
    fi
}

setup_tools() {
    packages=""
    missing=""
    old_ifs=$IFS
    IFS='
'
    for line in $TOOLS; do
        IFS='|' read -r program package other <<LINE
$line
LINE
        have "$program" && continue
        case " $packages " in *" $package "*) ;; *) packages="$packages $package" ;; esac
        missing="$missing
setup: $program is missing: as root, apt-get install $package; or $other"
    done
    IFS=$old_ifs
    [ -n "$packages" ] || return 0
    if can_apt; then
        # Debian starts what it installs as services on the standard ports; ours run only when asked to.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
            trap 'rm -f "$policy" "$log"' EXIT
        fi
        # shellcheck disable=SC2086
        apt_install $packages
    else
        echo "$missing" | sed '/^$/d' >&2
        exit 1
    fi
}

setup_python() {
    stamp=.venv/.requirements
    if [ -f "$stamp" ] && cmp -s "$stamp" requirements/dev.txt && [ -x .venv/bin/servescope ]; then
        return 0
    fi
    python=${PYTHON:-python3}
    if ! have "$python"; then
        echo "setup: $python is missing: as root, apt-get install python3 python3-venv" >&2
        exit 1
    fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "setup: $("$python" --version) is too old to work on the bundle; 3.11 or later is needed (PYTHON=...)" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if can_apt; then
            apt_install python3-venv
        else
            echo "setup: the venv module of $python is missing: as root, apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    [ -x .venv/bin/python ] || { echo "setup: creating .venv"; "$python" -m venv .venv; }
    echo "setup: installing $(grep -c '^[a-z]' requirements/dev.txt) Python packages into .venv"
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
    .venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r requirements/dev.txt
    .venv/bin/uv pip install -q --python .venv/bin/python --no-deps -e .
    cp requirements/dev.txt "$stamp"
}

# The Collector of otel/builder.yaml, by the official builder, into .tools. Nothing else needs it, so a failure is said
# in one line and everything else goes on.
setup_collector() {
    if [ -x .tools/otelcol ] && cmp -s otel/builder.yaml .tools/otelcol.yaml; then
        return 0
    fi
    without="traces and what is made from them are left out"
    version=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -lt 21 ]; then
        echo "setup: the Collector is not built, for want of Go 1.21 or later (https://go.dev/dl): $without"
        return 0
    fi
    release=$(sed -n 's/^  version: //p' otel/builder.yaml)
    echo "setup: building the Collector $release from otel/builder.yaml (some minutes, once)"
    mkdir -p .tools
    if ! { GOBIN=$PWD/.tools/bin go install "go.opentelemetry.io/collector/cmd/builder@v$release" &&
        .tools/bin/builder --config otel/builder.yaml; } >"$log" 2>&1; then
        echo "setup: the Collector was not built: $(tail -n 1 "$log"): $without"
        return 0
    fi
    mv .tools/otelcol-build/otelcol .tools/otelcol
    cp otel/builder.yaml .tools/otelcol.yaml
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for part in "$@"; do
    case $part in
        python) setup_python ;;
        tools) setup_tools ;;
        collector) setup_collector ;;
        *) echo "setup: unknown part $part" >&2; exit 2 ;;
    esac
done
