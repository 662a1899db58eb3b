#!/bin/sh
set -eu
python3 -m unittest discover -s tests -t . -v
python3 -m compileall -q shop
python3 -m zipapp shop -m 'store:main' -o shop.pyz
python3 shop.pyz
echo WORK-DONE
