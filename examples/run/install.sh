#!/bin/sh
# Installs what the examples need, with stock OpenTelemetry packages, into a folder of its own:
#
#   sh examples/run/install.sh [python|node|all] [FOLDER]       # all, into ~/.cache/exit137/example-packages unless told
#   . FOLDER/activate                                           # puts them on the path of this shell
#
# Needs python3 with venv, or node with npm. Versions are not pinned: the point is that the stock ones do.
set -eu

what=${1:-all}
folder=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/exit137/example-packages}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ "$what" = python ] || [ "$what" = all ]; then
    [ -x "$folder/python/bin/python3" ] || python3 -m venv "$folder/python"
    "$folder/python/bin/pip" install --quiet --disable-pip-version-check flask opentelemetry-distro \
        opentelemetry-exporter-otlp-proto-http opentelemetry-instrumentation-flask
fi

if [ "$what" = node ] || [ "$what" = all ]; then
    mkdir -p "$folder/node"
    (cd "$folder/node" && npm install --silent --no-audit --no-fund \
        express @opentelemetry/api @opentelemetry/auto-instrumentations-node)
fi

cat > "$folder/activate" << END
PATH="$folder/python/bin:\$PATH"
NODE_PATH="$folder/node/node_modules"
export PATH NODE_PATH
END
echo ". $folder/activate"
