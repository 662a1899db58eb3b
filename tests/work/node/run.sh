#!/bin/sh
set -eu
npm test --silent
node main.js
echo WORK-DONE
