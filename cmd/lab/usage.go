package main

import (
	"errors"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/labs"
	"wirelab.dev/wirelab/profiles"
)

// Exit codes of lab. Usage covers all that is wrong with the request itself: an unknown
// command, flag, key, profile, lab, node or pod, an invalid profile or setting. Claim is for what was looked
// at and does not hold, failed for all that was not to be had, a check that could not look too.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	exitClaim  = 3
)

// usageError marks an error as one of the request.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// failedError marks an error as the answer to a request that was fine, whatever it wraps.
type failedError struct{ error }

func (e failedError) Unwrap() error { return e.error }

// claimError marks an error as a claim that was looked at and does not hold.
type claimError struct{ error }

func (e claimError) Unwrap() error { return e.error }

// exitCode is what lab exits with when a command returned err.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitFine
	case is[claimError](err):
		return exitClaim
	case is[failedError](err):
		return exitFailed
	case is[usageError](err), errors.Is(err, labs.ErrWhich), errors.Is(err, labs.ErrPlace), errors.Is(err, profiles.ErrUnknown), len(profiles.Problems(err)) > 0:
		return exitUsage
	default:
		return exitFailed
	}
}

// is tells whether an error of this type is in err.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// usageArgs makes the errors of check errors of the request.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
