#!/bin/sh
# Clones what prepare.sh made, as from another machine: no object is linked.
set -eu
git clone -q "file://$PWD/origin.git" clone
test -f clone/part-50/file-20.txt
echo WORK-DONE
