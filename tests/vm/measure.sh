#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make bench` in small: a case of each subject, once, on every filesystem that the kernel has. Each case checks that it did
# its work.
export CALF_BENCH_CASES=write-1m,direct-read-4k-qd16,create@100,clone@10,mount-crash CALF_BENCH_ROUNDS=1
exec "$(dirname "$0")/bench"
