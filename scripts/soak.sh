#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make soak`: long runs, T= only some of them. bigdir and clone with a million names and extents; damage to every field of every structure; the model test,
# SEEDS (20) seeds of STEPS (10000) steps, FIRST=N starts at another seed,
# MODEL="CALF_MODEL_BS=1024 CALF_MODEL_OPTS= CALF_MODEL_SHRINK=1" runs one kind and leaves out steps after a failure; fsx, SEEDS seeds of OPS (100000) operations,
# each with blocks of 1 and 4 KiB, with and without always_cow; PART=10000 in processes of so many, which is several times faster. Takes hours. Two VMs with CPUS=1 and half of the seeds
# each (in two clones) take half of the time of one: programs of one thread, and UML's processors wait spinning.
# The kernel hands the words on its command line to process 1 as environment.
. "$(dirname "$0")/vm.sh"
prepare release
vm_command soak
limit=$((${HOURS:-24} * 3600))
tests=()
for t in ${T:-bigdir clone model fsx damage}; do
	tests+=("$t:$limit:release")
done
exec "${VM[@]}" --append "CALF_MODEL_SEEDS=${SEEDS:-20} CALF_MODEL_STEPS=${STEPS:-10000} CALF_MODEL_FIRST=${FIRST:-1}" \
	${MODEL:+--append "$MODEL"} --append "CALF_SOAK=1 CALF_FSX_SEEDS=${SEEDS:-20} CALF_FSX_FIRST=${FIRST:-1} CALF_FSX_OPS=${OPS:-100000}" ${PART:+--append "CALF_FSX_PART=$PART"} "${tests[@]}"
