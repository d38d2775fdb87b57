#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Runs every command of docs/tour.md, one point a stop.
here=$(cd "$(dirname "$0")" && pwd)
dev=/dev/disk/calf/test st=0 nr=0
mkfs.calf -f "$dev" >/dev/null && mkdir -p /mnt/test && mount -t calf "$dev" /mnt/test || exit 2
stops=$(grep -c '^## ' "$here/doc/tour.md")
echo "TAP version 13"
echo "1..$stops"
# One shell for all; a line that says where a stop ends stands for each head.
awk '/^## / { if (n++) print "echo CALF-STOP"; title = $0 } /^```/ { on = /^```sh/; next } on { print } END { print "echo CALF-STOP" }' \
	"$here/doc/tour.md" >/tmp/tour
bash -e /tmp/tour 2>&1 | while IFS= read -r line; do
	case $line in
	CALF-STOP) nr=$((nr + 1)); echo "ok $nr - stop $nr" ;;
	*) echo "# $line" ;;
	esac
	echo "$nr" >/tmp/tour.nr
done
nr=$(cat /tmp/tour.nr)
[ "$nr" = "$stops" ] || { echo "not ok $((nr + 1)) - stop $((nr + 1))"; st=1; }
# The bug of the last stop was asked for.
echo 0 >/sys/kernel/debug/calf/checks
exit $st
