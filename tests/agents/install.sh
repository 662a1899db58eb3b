#!/bin/sh
# Installs the third-party agents that the tests run, at pinned versions, into $LEASH_AGENTS_DIR.
# Where the packages come from is the machine's own configuration of pip and npm. Does nothing if all of it is there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
directory=${LEASH_AGENTS_DIR:?names the directory to install into; cargo xtask setup does}
stamp=$(cat "$here/install.sh" "$here/requirements.txt" "$here/package.json" | sha256sum)

if [ "$(cat "$directory/stamp" 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi

# The system's Python first: one in somebody's home may be unreadable for the user that an agent runs as.
python=
for candidate in /usr/bin/python3 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "install.sh: needs Python 3.10 or later with venv (Debian: apt-get install python3-venv)" >&2
    exit 1
fi
# Node.js where the agents will find it: their sessions know no version manager of somebody's home.
PATH=/usr/local/bin:/usr/bin:/bin
major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
if [ "$major" -lt 20 ] || ! command -v npm >/dev/null; then
    echo "install.sh: needs Node.js 20 or later with npm in $PATH; found version $major (0: none)" >&2
    exit 1
fi

rm -rf "$directory"
mkdir -p "$directory/node"
echo "installing mini-swe-agent into $directory/mini" >&2
"$python" -m venv "$directory/mini"
"$directory/mini/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
"$python" -m compileall -q "$directory/mini/lib" || true

echo "installing codex and gemini-cli into $directory/node" >&2
cp "$here/package.json" "$directory/node/"
npm install --prefix "$directory/node" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null

for program in mini/bin/mini node/node_modules/.bin/codex node/node_modules/.bin/gemini; do
    if [ ! -x "$directory/$program" ]; then
        echo "install.sh: $program is missing after the installation" >&2
        exit 1
    fi
done
printf '%s\n' "$stamp" >"$directory/stamp"
