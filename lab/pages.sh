#!/usr/bin/env bash
# The server's pages in headless Chromium: pictures at two widths, light and dark, and what axe-core finds of the rules
# for accessibility. Fails when a page loads anything from elsewhere, is wider than the window, or breaks a rule.
#
#   lab/pages.sh http://127.0.0.1:1370 FOLDER [PATH…]
#
# Needs Chromium (Debian: chromium), Node and npm. Look at the pictures: no rule sees that something is ugly.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
server="${1:?the address of a server}" folder="${2:?a folder for the pictures}"
shift 2
cache="${XDG_CACHE_HOME:-$HOME/.cache}/exit137/pages-node-1"
if [ ! -d "$cache" ]; then
    mkdir -p "$cache.unfinished"
    npm install --silent --no-audit --no-fund --prefix "$cache.unfinished" playwright-core@1.64.1 axe-core@4
    mv "$cache.unfinished" "$cache"
fi
mkdir -p "$folder"
NODE_PATH="$cache/node_modules" node "$here/pages.cjs" "$server" "$folder" "${@:-/}"
