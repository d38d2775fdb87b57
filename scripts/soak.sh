#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make soak`: the model test, SEEDS (20) seeds of STEPS (10000) steps, and fsx, SEEDS seeds of OPS (100000)
# operations, each with blocks of 1 and 4 KiB, with and without always_cow. Takes hours. FIRST=N starts the model at
# another seed. The kernel hands the words on its command line to process 1 as environment.
. "$(dirname "$0")/vm.sh"
prepare release
vm_command soak
hours=${HOURS:-24}
exec "${VM[@]}" --append "CALF_MODEL_SEEDS=${SEEDS:-20} CALF_MODEL_STEPS=${STEPS:-10000} CALF_MODEL_FIRST=${FIRST:-1}" \
	--append "CALF_FSX_SEEDS=${SEEDS:-20} CALF_FSX_OPS=${OPS:-100000}" \
	"model:$((hours * 3600)):release" "fsx:$((hours * 3600)):release"
