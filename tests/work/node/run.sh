#!/bin/sh
set -eu
npm test --silent --no-update-notifier
node main.js
echo WORK-DONE
