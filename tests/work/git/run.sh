#!/bin/sh
# A day with git: everything in the current directory, nothing from a network.
set -eu
identity() {
    git -C "$1" config user.name Developer
    git -C "$1" config user.email developer@example.invalid
}

git init -q --initial-branch=main origin
identity origin
printf 'one\ntwo\nthree\n' >origin/numbers.txt
git -C origin add -A
git -C origin commit -qm 'Numbers'
git -C origin tag -a v1 -m 'First'

git clone -q origin clone
identity clone
cd clone
git switch -qc more
printf 'four\n' >>numbers.txt
git commit -qam 'Four'
git switch -q main
printf 'zero\n' >zero.txt
git add zero.txt
git commit -qm 'Zero'
git merge -q -m 'Merge more' more
printf 'changed\n' >>zero.txt
git stash -q
git stash pop -q
git restore zero.txt
git switch -qc topic main~1
printf 'topic\n' >topic.txt
git add topic.txt
git commit -qm 'Topic'
git rebase -q main
git mv topic.txt subject.txt
git commit -qm 'Rename'
git worktree add -q ../tree main
git worktree remove ../tree
git push -q origin topic
git fetch -q origin
git gc -q
git fsck --no-progress
test "$(git log --oneline | wc -l)" -eq 6
test -z "$(git status --porcelain)"
echo WORK-DONE
