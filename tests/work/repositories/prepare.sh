#!/bin/sh
# A repository with a submodule, a worktree outside of it and another repository in it, which the session finds.
set -eu
export GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=Developer GIT_CONFIG_KEY_1=user.email \
    GIT_CONFIG_VALUE_1=developer@example.invalid GIT_CONFIG_KEY_2=protocol.file.allow GIT_CONFIG_VALUE_2=always
git init -q --initial-branch=main .
git init -q --initial-branch=main vendor/lib
mkdir vendor/lib/.vscode
echo '{}' >vendor/lib/.vscode/tasks.json
git -C vendor/lib add -A
git -C vendor/lib commit -qm 'Library'
git submodule --quiet add "$PWD/vendor/lib" sub
git add run.sh sub
git commit -qm 'All'
git worktree add -q ../worktree -b worktree
