// Command nettool is the workload of a lab's demo and the hand that checks
// reach into pods, nodes and hosts with: a server that says who answered and
// who asked, and probes that print what they found as JSON.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, errProbe) {
		fmt.Fprintln(os.Stderr, "nettool:", err)
	}
	os.Exit(exitCode(err))
}

// errProbe ends the program after a probe that did not succeed; its printed
// reply says why.
var errProbe = errors.New("the probe did not succeed")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// exitCode is 0 for success, 2 for bad usage, else 1.
func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := newRootCmd()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}
