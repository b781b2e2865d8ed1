#!/bin/sh
# Install what the Makefile needs: `setup.sh python` creates .venv from the hashed requirements, `setup.sh ray` creates
# .venv-ray-$RAY_VERSION for the live tests against another Ray, `setup.sh tools` the external programs, `setup.sh
# drill` those plus the drill's own, `setup.sh compose` the parser of the compose files, `setup.sh prometheus3` a
# Prometheus 3 beside the installed one, `setup.sh collector` the OpenTelemetry Collector, `setup.sh browser` Chromium,
# `setup.sh docs` the builder of the documentation site (.venv-docs), `setup.sh actionlint` the checker of the workflows,
# `setup.sh bench-blocks` the writer of the benchmarks' series, `setup.sh victorialogs` VictoriaLogs, `setup.sh jaeger`
# Jaeger, `setup.sh grafana` the packages of Grafana that GRAFANA_LINES names. Reports what it installs; does nothing if it
# is already there.
# `setup.sh collector-state` prints `built`, `to build` or what is missing to build the Collector; `background` before
# another part takes it to the lowest priority. SETUP_LOG is a file that keeps what the installing programs print.
set -eu
cd "$(dirname "$0")/.."

# By default uv trusts its bundled certificates; company networks need those of the system. Two names of one setting that
# uv renamed.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" UV_NATIVE_TLS="${UV_NATIVE_TLS:-1}"

# program, Debian package, where else to get it
TOOLS="
prometheus|prometheus|https://prometheus.io/download (2.42 or later)
promtool|prometheus|https://prometheus.io/download (2.42 or later)
prometheus-alertmanager|prometheus-alertmanager|https://prometheus.io/download (alertmanager on the PATH as prometheus-alertmanager)
amtool|prometheus-alertmanager|https://prometheus.io/download (with alertmanager)
prometheus-blackbox-exporter|prometheus-blackbox-exporter|https://prometheus.io/download (blackbox_exporter on the PATH as prometheus-blackbox-exporter)
"
# Additional programs of the drill.
DRILL_TOOLS="
redis-server|redis-server|https://redis.io/docs/latest/operate/oss_and_stack/install
redis-cli|redis-tools|https://redis.io/docs/latest/operate/oss_and_stack/install
ip|iproute2|your distribution
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
    for line in $1; do
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
        # Debian starts installed services on their standard ports; here they run only on demand.
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

# For the pictures of the dashboards and the visual test; nothing else needs it.
setup_browser() {
    for program in chromium chromium-browser google-chrome; do
        if have "$program"; then return 0; fi
    done
    # In a subshell: a failure must not stop the rest.
    if can_apt && (apt_install chromium fonts-dejavu-core); then return 0; fi
    echo "setup: chromium is missing, so no pictures of dashboards: as root, apt-get install chromium fonts-dejavu-core" >&2
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
        echo "setup: $("$python" --version) is too old for development; 3.11 or later is required (PYTHON=...)" >&2
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

setup_ray() {
    [ -n "${RAY_VERSION:-}" ] || return 0
    requirements=requirements/ray-$RAY_VERSION.txt
    if [ ! -f "$requirements" ]; then
        echo "setup: RAY_VERSION=$RAY_VERSION: $requirements not found; available versions:" \
            "$(ls requirements | sed -n 's/^ray-\(.*\)\.txt$/\1/p' | tr '\n' ' ')" >&2
        exit 1
    fi
    venv=.venv-ray-$RAY_VERSION
    stamp=$venv/.requirements
    if [ -f "$stamp" ] && cmp -s "$stamp" "$requirements" && [ -x "$venv/bin/ray" ]; then
        return 0
    fi
    echo "setup: installing Ray $RAY_VERSION and its dependencies into $venv"
    rm -rf "$venv"
    .venv/bin/uv venv -q --python .venv/bin/python "$venv"
    .venv/bin/uv pip install -q --python "$venv/bin/python" --require-hashes -r "$requirements"
    cp "$requirements" "$stamp"
}

# Unpack one program of a package of another Debian suite, without installing it: `unpack_deb SUITE PACKAGE SHA256 PROGRAM
# PLACE`. apt checks the archive's signature; SHA256 is that of the amd64 package, "" where the suite still changes it.
unpack_deb() ( # a subshell, for its own exit trap
    suite=$1 package=$2 sha256=$3 program=$4 place=$5
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 2>/dev/null |
        awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/deb"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$folder/sources.list"
    apt_of_suite() {
        apt-get -q -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=- \
            -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=root \
            -o Acquire::Languages=none "$@"
    }
    echo "setup: unpacking $package of Debian's $suite into .tools"
    if [ -n "$mirror" ] && apt_of_suite update >"$log" 2>&1 &&
        (cd "$folder/deb" && apt_of_suite download "$package" >>"$log" 2>&1) &&
        { [ -z "$sha256" ] || [ "$(dpkg --print-architecture)" != amd64 ] ||
            echo "$sha256  $(echo "$folder"/deb/*.deb)" | sha256sum -c --status; } &&
        dpkg-deb -x "$folder"/deb/*.deb "$folder/root"; then
        mkdir -p .tools
        mv "$folder/root$program" "$place"
    else
        tail -n 3 "$log" >&2
        return 1
    fi
)

# Compose's parser, for the tests of the compose files without Docker. Debian 12 has only Compose 1, so this unpacks the
# package of Debian 13, which depends on the C library only. If it is unavailable, one line says so and the tests are
# skipped.
COMPOSE_VERSION=2.26.1-4
COMPOSE_SHA256_AMD64=47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea
setup_compose() {
    [ -x .tools/docker-compose ] && return 0
    if docker compose version >/dev/null 2>&1; then return 0; fi
    if ! have apt-get || ! have dpkg-deb; then
        echo "setup: docker compose and apt-get are missing: compose files are not checked by Compose" >&2
        return 0
    fi
    unpack_deb trixie "docker-compose=$COMPOSE_VERSION" "$COMPOSE_SHA256_AMD64" \
        /usr/libexec/docker/cli-plugins/docker-compose .tools/docker-compose ||
        echo "setup: docker-compose could not be downloaded: compose files are not checked by Compose" >&2
}

# Prometheus 3, beside Debian 12's 2.42: Debian's testing suite has it, and it needs the C library only.
setup_prometheus3() {
    [ -x .tools/prometheus3 ] && return 0
    if ! have apt-get || ! have dpkg-deb ||
        ! unpack_deb forky prometheus "" /usr/bin/prometheus .tools/prometheus3; then
        echo "setup: Prometheus 3 could not be downloaded; put it at .tools/prometheus3" >&2
        exit 1
    fi
}

# For a session of its own that works while something else runs, which comes first: at the CPU, also where the kernel
# shares it among sessions before it looks at priorities (autogroup), and at the disk.
setup_background() {
    renice -n 19 -p $$ >/dev/null 2>&1 || true
    read -r _ _ _ _ _ session _ </proc/self/stat
    if [ "$session" = $$ ]; then { echo 19 >/proc/self/autogroup; } 2>/dev/null || true; fi
    if have ionice; then ionice -t -c 3 -p $$; fi
}

collector_state() {
    if [ -x .tools/otelcol ] && cmp -s otel/builder.yaml .tools/otelcol.yaml; then
        echo built
        return 0
    fi
    version=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 21 ]; then
        echo "to build"
    else
        echo "the Collector is not built, for want of Go 1.21 or later (https://go.dev/dl)"
    fi
}

# The builder compiles in silence, so it only writes the sources here; the flags of `go build` are its own. How many
# packages there are to build is asked first: demo/stack/components/collector_build.py counts the lines after that.
build_collector() {
    GOBIN=$PWD/.tools/bin go install -v "go.opentelemetry.io/collector/cmd/builder@v$release" || return 1
    .tools/bin/builder --config otel/builder.yaml --skip-compilation || return 1
    (
        cd .tools/otelcol-build || exit 1
        export CGO_ENABLED=0
        to_build=$(go list -trimpath -ldflags="-s -w" -gcflags= -deps -f '{{if .Stale}}x{{end}}' . | grep -c x)
        echo "setup: $to_build packages to build"
        go build -v -trimpath -ldflags="-s -w" -gcflags= -o otelcol .
    )
}

# The Collector of otel/builder.yaml, by the official builder, into .tools. It is optional, so a failure is reported in
# one line and the rest continues.
setup_collector() {
    without="traces and span metrics are skipped"
    state=$(collector_state)
    case $state in
        built) return 0 ;;
        "to build") ;;
        *)
            echo "setup: $state: $without"
            return 0
            ;;
    esac
    release=$(sed -n 's/^  version: //p' otel/builder.yaml)
    echo "setup: building the Collector $release from otel/builder.yaml (takes some minutes, once)"
    mkdir -p .tools
    if ! build_collector >"$log" 2>&1; then
        echo "setup: the Collector was not built: $(tail -n 1 "$log"): $without"
        return 0
    fi
    mv .tools/otelcol-build/otelcol .tools/otelcol
    cp otel/builder.yaml .tools/otelcol.yaml
}

# The writer of the benchmarks' series, on Prometheus' own packages: tests/bench/blocks. It is optional, so a failure is reported
# in one line.
setup_bench_blocks() {
    without="make bench does not measure dashboards and rules"
    sources=$(cat tests/bench/blocks/main.go tests/bench/blocks/go.mod tests/bench/blocks/go.sum | sha256sum)
    if [ -x .tools/bench-blocks ] && [ "$sources" = "$(cat .tools/bench-blocks.sha256 2>/dev/null)" ]; then return 0; fi
    version=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -lt 21 ]; then
        echo "setup: tests/bench/blocks is not built, for want of Go 1.21 or later (https://go.dev/dl): $without"
        return 0
    fi
    echo "setup: building tests/bench/blocks (takes a minute, once)"
    mkdir -p .tools
    target=$PWD/.tools/bench-blocks
    if ! (cd tests/bench/blocks && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$target" .) >"$log" 2>&1; then
        echo "setup: tests/bench/blocks was not built: $(tail -n 1 "$log"): $without"
        return 0
    fi
    echo "$sources" >.tools/bench-blocks.sha256
}

# The builder of the documentation site, separate from .venv: tests and demo do not need it. Mermaid draws the diagrams;
# Material would load it from a third-party server. Material 9 supports mermaid 11.
MERMAID_VERSION=11.17.2
MERMAID_SHA256=581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8 # of dist/mermaid.min.js
setup_docs() {
    if ! echo "$MERMAID_SHA256  .tools/mermaid.min.js" | sha256sum -c --status 2>/dev/null; then
        if ! have npm; then
            echo "setup: npm is missing, so no documentation site: as root, apt-get install npm" >&2
            exit 1
        fi
        echo "setup: unpacking mermaid $MERMAID_VERSION into .tools"
        mkdir -p .tools
        folder=$(mktemp -d .tools/mermaid.XXXXXX)
        if ! (cd "$folder" && npm pack --silent "mermaid@$MERMAID_VERSION" >"$log" 2>&1 && tar -xzf ./*.tgz &&
            echo "$MERMAID_SHA256  package/dist/mermaid.min.js" | sha256sum -c --status); then
            rm -rf "$folder"
            echo "setup: mermaid could not be downloaded, so no documentation site: $(tail -n 1 "$log")" >&2
            exit 1
        fi
        mv "$folder/package/dist/mermaid.min.js" .tools/mermaid.min.js
        rm -rf "$folder"
    fi
    stamp=.venv-docs/.requirements
    if [ -f "$stamp" ] && cmp -s "$stamp" requirements/docs.txt; then
        return 0
    fi
    echo "setup: installing $(grep -c '^[a-z]' requirements/docs.txt) Python packages into .venv-docs"
    [ -x .venv-docs/bin/python ] || .venv/bin/uv venv -q --python .venv/bin/python .venv-docs
    .venv/bin/uv pip sync -q --python .venv-docs/bin/python --require-hashes requirements/docs.txt
    cp requirements/docs.txt "$stamp"
}

# Checks the workflows. It is optional, so a failure is reported in one line.
ACTIONLINT_VERSION=v1.7.12
setup_actionlint() {
    [ -x .tools/bin/actionlint ] && return 0
    if ! have go; then
        echo "setup: actionlint is not built, Go is missing (https://go.dev/dl): workflows are not checked" >&2
        exit 1
    fi
    echo "setup: building actionlint $ACTIONLINT_VERSION"
    if ! GOBIN=$PWD/.tools/bin go install "github.com/rhysd/actionlint/cmd/actionlint@$ACTIONLINT_VERSION" >"$log" 2>&1; then
        echo "setup: actionlint was not built: $(tail -n 1 "$log"): workflows are not checked" >&2
        exit 1
    fi
}

# One program of a Go module, built inside of the module, whose own go.sum and replace lines then hold:
# `build_in_module MODULE@VERSION PACKAGE PLACE`.
build_in_module() (
    place=$PWD/$3
    mkdir -p "$(dirname "$place")"
    folder=$(cd / && go mod download -json "$1" 2>"$log" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
    [ -n "$folder" ] && cd "$folder" &&
        CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$place" "$2" >>"$log" 2>&1
)

# VictoriaLogs, a backend for the tests of the log agents: takes Loki's push protocol and OTLP. It is optional, so a failure is
# reported in one line.
VICTORIA_LOGS_VERSION=v1.52.2
setup_victorialogs() {
    without="the log agents are not tested with a real backend"
    [ -x .tools/victoria-logs ] && return 0
    if ! have go; then
        echo "setup: VictoriaLogs is not built, Go is missing (https://go.dev/dl): $without"
        return 0
    fi
    echo "setup: building VictoriaLogs $VICTORIA_LOGS_VERSION"
    build_in_module "github.com/VictoriaMetrics/VictoriaLogs@$VICTORIA_LOGS_VERSION" ./app/victoria-logs .tools/victoria-logs ||
        echo "setup: VictoriaLogs was not built: $(tail -n 1 "$log"): $without"
}

# VictoriaMetrics and its evaluator of rules, for the tests of other stores.
VICTORIA_METRICS_VERSION=v1.151.0
setup_victoriametrics() {
    for program in victoria-metrics vmalert; do
        [ -x ".tools/$program" ] && continue
        if ! have go; then
            echo "setup: $program is not built, Go is missing (https://go.dev/dl)" >&2
            exit 1
        fi
        echo "setup: building $program $VICTORIA_METRICS_VERSION"
        if ! build_in_module "github.com/VictoriaMetrics/VictoriaMetrics@$VICTORIA_METRICS_VERSION" \
            "./app/$program" ".tools/$program"; then
            echo "setup: $program was not built: $(tail -n 1 "$log")" >&2
            exit 1
        fi
    done
}

# Jaeger, a backend for the tests of traces: takes the Collector's OTLP. Built inside of its module, whose own go.sum then
# holds, without its web pages. It is optional, so a failure is reported in one line.
JAEGER_VERSION=v1.76.0
setup_jaeger() {
    without="traces are not tested with a real backend"
    [ -x .tools/jaeger ] && return 0
    if ! have go; then
        echo "setup: Jaeger is not built, Go is missing (https://go.dev/dl): $without"
        return 0
    fi
    echo "setup: building Jaeger $JAEGER_VERSION"
    build_in_module "github.com/jaegertracing/jaeger@$JAEGER_VERSION" ./cmd/all-in-one .tools/jaeger ||
        echo "setup: Jaeger was not built: $(tail -n 1 "$log"): $without"
}

# Grafana's published packages, for the tests that read the panels with its own code. They are optional, so a failure is
# reported in one line. Their locks name no addresses: npm asks the registry that it is configured for.
setup_grafana() {
    for line in ${GRAFANA_LINES:-10.4 11.6 12.4 13.2}; do
        lock=tests/grafana/lines/$line/package-lock.json
        folder=.tools/grafana/$line
        if [ ! -f "$lock" ]; then
            echo "setup: $lock not found; available versions: $(ls tests/grafana/lines | tr '\n' ' ')" >&2
            exit 1
        fi
        if [ -d "$folder/node_modules/@grafana/data" ] && cmp -s "$lock" "$folder/package-lock.json"; then continue; fi
        if ! have npm; then
            echo "setup: npm is missing, so Grafana's own code reads no panels: as root, apt-get install npm" >&2
            return 0
        fi
        echo "setup: installing the packages of Grafana $line into $folder (some 400 MB)"
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "tests/grafana/lines/$line/package.json" "$lock" "$folder"
        # No package runs a script of its own.
        if ! (cd "$folder" && npm ci --legacy-peer-deps --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
            rm -rf "$folder"
            echo "setup: Grafana $line's packages were not installed: $(tail -n 1 "$log")" >&2
        fi
    done
}

log=${SETUP_LOG:-}
if [ -z "$log" ]; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
fi
for part in "$@"; do
    case $part in
        python) setup_python ;;
        ray) setup_ray ;;
        tools) setup_tools "$TOOLS" ;;
        drill) setup_tools "$TOOLS$DRILL_TOOLS" ;;
        compose) setup_compose ;;
        prometheus3) setup_prometheus3 ;;
        collector) setup_collector ;;
        collector-state) collector_state ;;
        bench-blocks) setup_bench_blocks ;;
        victorialogs) setup_victorialogs ;;
        victoriametrics) setup_victoriametrics ;;
        jaeger) setup_jaeger ;;
        background) setup_background ;;
        browser) setup_browser ;;
        docs) setup_docs ;;
        actionlint) setup_actionlint ;;
        grafana) setup_grafana ;;
        *) echo "setup: unknown part $part" >&2; exit 2 ;;
    esac
done
