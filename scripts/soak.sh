#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make soak`: long runs in one VM, T=NAME,NAME only some of them. Takes hours.
#
#   bigdir clone  a million names, a million extents
#   damage        the eight mutations of every field of every structure; MODEL=CALF_DAMAGE=4096:super has those of fields
#                 whose names begin so, with blocks of this size. IMAGES (400) more are damaged at random and repaired, and as
#                 many not repaired, from seed SEED (the time) on
#   faults        the n-th allocation, page, request fails, for every n of every operation (laboratory build)
#   model         the model test: SEEDS (20) seeds of STEPS (10000) steps, from seed FIRST (1);
#                 MODEL="CALF_MODEL_BS=1024 CALF_MODEL_OPTS= CALF_MODEL_SHRINK=1" runs one kind and leaves out steps
#                 after a failure
#   fsx           SEEDS seeds of OPS (100000) operations from seed FIRST, each with blocks of 1 and 4 KiB, with and without
#                 always_cow; PART=10000 in processes of so many, which is several times faster
#
# Two VMs with CPUS=1 and half of the seeds each (in two clones) take half of the time of one: these are programs of
# one thread, and UML's processors wait spinning. The kernel hands the words on its command line to process 1 as environment.
CALF_LONG=1
. "$(dirname "$0")/vm.sh"
counts SEEDS STEPS OPS PART HOURS IMAGES
numbers FIRST SEED
vm_tests
limit=$((${HOURS:-24} * 3600))
variants=() tests=()
for t in $(tr , ' ' <<<"${T:-bigdir,clone,damage,faults,model,fsx}"); do
	v=release
	[ "$t" != faults ] || v=lab
	tests+=("$t:$limit:$v")
	[[ " ${variants[*]} " == *" $v "* ]] || variants+=("$v")
done
prepare "${variants[@]}"
vm_command soak
words="CALF_SOAK=1 CALF_FAULTS=all CALF_MODEL_SEEDS=${SEEDS:-20} CALF_MODEL_STEPS=${STEPS:-10000} CALF_MODEL_FIRST=${FIRST:-1}"
words+=" CALF_FSX_SEEDS=${SEEDS:-20} CALF_FSX_FIRST=${FIRST:-1} CALF_FSX_OPS=${OPS:-100000}${PART:+ CALF_FSX_PART=$PART}"
words+=" CALF_DAMAGE_IMAGES=${IMAGES:-400} CALF_DAMAGE_SEED=${SEED:-$(date +%s)}"
exec "${VM[@]}" --append "$words" ${MODEL:+--append "$MODEL"} "${tests[@]}"
