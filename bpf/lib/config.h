//go:build ignore

#pragma once

#include <stdbool.h>
#include <linux/types.h>

/*
 * What differs by profile is set before the programs are loaded: to the verifier these are constants,
 * and it removes the branches that cannot be taken.
 */

/* Report every packet to lab_events; otherwise dropped ones only. */
volatile const bool cfg_trace;
