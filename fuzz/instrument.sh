#!/bin/sh
# A wrapper of the compiler for the workspace's own crates: adds what libFuzzer looks at. Dependencies stay as every other build has them.
# A build script runs by itself, without libFuzzer.
case " $* " in
*" --crate-name build_script_"*) exec "$@" ;;
esac
exec "$@" --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
