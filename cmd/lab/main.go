// Command lab makes Kubernetes networking labs, proves what they claim, and takes them down.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/profiles"
)

func main() {
	// What libraries log is meant for whoever runs a server. Errors that matter come back as errors.
	klog.SetLogger(logr.Discard())
	log.SetOutput(io.Discard)
	ctx, end := untilTold()
	stdout, stderr := &watched{Writer: os.Stdout, gone: end}, &watched{Writer: os.Stderr, gone: end}
	os.Exit(run(ctx, os.Args[1:], os.Stdin, stdout, stderr))
}

// run is the whole program. It returns the exit status, one of those in usage.go or that of a command that ran in a lab.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		explain(stderr, err, context.Cause(ctx))
	}
	if exit, ok := errors.AsType[statusError](err); ok {
		return exit.code
	}
	return exitCode(err)
}

// explain prints an error, and below it what helps to understand it. Of an interrupted command it says what went wrong
// besides; why is what interrupted it, nil for one that was not.
func explain(w io.Writer, err error, why error) {
	if is[statusError](err) || is[reportedError](err) {
		return // what there is to say has been said
	}
	if errors.Is(why, errGone) {
		// Who closes a pipe has seen enough. What could not be undone is said all the same.
		if joined := afterInterrupt(err); joined != nil && !errors.Is(joined, syscall.EPIPE) && !errors.Is(joined, syscall.EIO) {
			fmt.Fprintln(w, "lab:", joined)
		}
		return
	}
	if why != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "lab: interrupted")
		if joined := afterInterrupt(err); joined != nil {
			fmt.Fprintln(w, "lab:", joined)
		}
		return
	}
	if found := profiles.Problems(err); len(found) > 1 {
		for _, p := range found {
			fmt.Fprintln(w, "lab:", p)
		}
		return
	}
	fmt.Fprintln(w, "lab:", err)
	if notReady, ok := errors.AsType[*kube.NotReady](err); ok {
		fmt.Fprint(w, "\n"+notReady.Detail())
	}
}

// afterInterrupt is what went wrong besides the interrupt, such as a clean-up that failed.
func afterInterrupt(err error) error {
	multi, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var rest []error
	for _, e := range multi.Unwrap() {
		if !errors.Is(e, context.Canceled) {
			rest = append(rest, e)
		} else if below := afterInterrupt(e); below != nil {
			rest = append(rest, below)
		}
	}
	return errors.Join(rest...)
}

// statusError carries the exit status of a command that ran in a lab.
type statusError struct{ code int }

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// reportedError is an error that the user has been told of already.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }
