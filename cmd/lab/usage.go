package main

import (
	"errors"

	"github.com/spf13/cobra"

	"wirelab.dev/wirelab/profiles"
)

// Exit codes of lab. Usage covers all that is wrong with the request itself: an unknown
// command, flag, key or profile, an invalid profile or setting.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError marks an error as one of the request.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// failedError marks an error as the answer to a request that was fine, whatever it wraps.
type failedError struct{ error }

func (e failedError) Unwrap() error { return e.error }

// exitCode is what lab exits with when a command returned err.
func exitCode(err error) int {
	var usage usageError
	var failed failedError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &failed):
		return exitFailed
	case errors.As(err, &usage), errors.Is(err, profiles.ErrUnknown), len(profiles.Problems(err)) > 0:
		return exitUsage
	default:
		return exitFailed
	}
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
