#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The reproducers with the literal files of the reports, once in each position of the switch.
# calf.repro=<arguments> on the kernel command line replaces the arguments of "calf-lab run"
# (commas stand for blanks).
args=$(sed -n 's/.*calf\.repro=\([^ ]*\).*/\1/p' /proc/cmdline | tr ',' ' ')
exec calf-lab run ${args:---both}
