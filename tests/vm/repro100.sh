#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# 100 runs with the switch on must show the bug, 100 with it off must not, in one boot: for the
# variant with the symptom of the report, and for the mapping of 2021 to the letter.
exec "$(dirname "$0")/calf-repro" run unshare_srcmap_alias_new unshare_hole_reserve \
    --both --times 100 --size 131072 --no-trace
