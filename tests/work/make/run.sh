#!/bin/sh
# Configure nothing, build everything, test, install into a staging directory, clean.
set -eu
make -j2
make check
make install DESTDIR="$PWD/stage"
LD_LIBRARY_PATH="$PWD/stage/lib" ./stage/bin/wordcount README.txt
make clean
echo WORK-DONE
