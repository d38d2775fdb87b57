#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# 100 runs with the switch on must show the bug, 100 with it off must not, in one boot: all variants of
# seed 000.
exec calf-lab run unshare_srcmap_alias_new unshare_srcmap_alias \
    unshare_srcmap_nulladdr unshare_hole_reserve --both --times 100 --size 131072 --no-trace
