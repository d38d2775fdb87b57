#!/bin/sh
# Self test of qemu/run: the machine goes off in the middle, without a result.
echo "TAP version 13"
echo "1..1"
echo "ok 1 - so far"
sleep 0.2
exec perl -e 'syscall(169, 0xfee1dead, 672274793, 0x1234567, 0)'
