#!/bin/sh
# Self test of qemu/run: a test that fails in one of its points.
echo "TAP version 13"
echo "1..2"
echo "ok 1 - good"
echo "# the reason"
echo "not ok 2 - injected failure"
exit 1
