// SPDX-License-Identifier: GPL-2.0
#include "calf_bindings.h"
