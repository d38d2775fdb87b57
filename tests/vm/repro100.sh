#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# 100 runs with the switch on must show the bug, 100 with it off must not, in one boot.
exec "$(dirname "$0")/calf-repro" run --both --times 100 --size 131072 --no-trace
