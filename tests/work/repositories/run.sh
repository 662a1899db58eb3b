#!/bin/sh
# What a session may do with repositories, and what it may not: each attempt plants a program that git would run.
set -eu
export GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=Developer GIT_CONFIG_KEY_1=user.email \
    GIT_CONFIG_VALUE_1=developer@example.invalid GIT_CONFIG_KEY_2=protocol.file.allow GIT_CONFIG_VALUE_2=always
git init -q --initial-branch=main made
git -C made config core.fileMode true
git -C made commit -q --allow-empty -m 'Made'
git clone -q vendor/lib clone
test -f clone/.vscode/tasks.json
git -C clone submodule --quiet add "$PWD/vendor/lib" sub
git -C clone commit -qm 'Submodule'
git clone -q --recurse-submodules clone again
test -f again/sub/.vscode/tasks.json
git -C again submodule --quiet update --init
git worktree add -q tree
test -f tree/run.sh
git worktree remove tree
git worktree add -q .worktrees/other
git -C clone worktree add -q ../clone-tree
git -C vendor/lib commit -q --allow-empty -m 'More'
cp -r made copied
mv made moved
rm -rf moved clone-tree

evil="[core]
	fsmonitor = \"touch $1; false\""
plant() {
    if (printf '%s\n' "$evil" >"$1") 2>/dev/null || (printf '%s\n' "$evil" >>"$1") 2>/dev/null; then echo "PLANTED $1"; fi
}
for place in .git/config .git/commondir .git/worktrees/worktree/commondir .git/worktrees/worktree/gitdir \
    .git/worktrees/worktree/config .git/worktrees/worktree/config.worktree .git/modules/sub/config .git/modules/sub/commondir \
    .git/modules/sub/config.worktree .git/modules/sub/hooks/post-checkout vendor/lib/.git/config vendor/lib/.git/commondir \
    vendor/lib/.git/hooks/post-checkout sub/.git clone/.git/hooks/post-checkout; do
    plant "$place"
done
if git -C vendor/lib config core.fsmonitor "touch $1; false" 2>/dev/null; then echo "PLANTED by git config"; fi
cp copied/.git/config copied/hook
if mv copied/hook clone/.git/hooks/pre-commit 2>/dev/null; then echo "PLANTED by rename"; fi
if ln copied/.git/config clone/.git/hooks/pre-commit 2>/dev/null; then echo "PLANTED by link"; fi
if mv clone/.git/hooks/pre-commit.sample clone/.git/hooks/pre-commit 2>/dev/null; then echo "PLANTED a sample"; fi
rm sub/.git
if mkdir sub/.git 2>/dev/null; then echo "PLANTED a directory"; fi
mkdir deep
if mv copied/.git sub/.git 2>/dev/null; then echo "PLANTED a repository"; fi
for name in deep/sitecustomize.py lefthook.yml; do plant "$name"; done
echo WORK-DONE
