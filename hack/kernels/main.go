// Command kernels runs tests of the data plane under other kernels than this machine's, each in a machine that QEMU
// emulates. A test counts where it ran: one that is skipped although its kernel has all that it needs fails the run, and so
// does one that no kernel has run.
//
//	kernels                                          the chosen tests under all kernels
//	kernels -kernel 6.1 -run TestClsact ./datapath   one test under one kernel
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// kernels are those that fetch.sh knows, oldest first. What each must have says internal/netnstest.
var kernels = []string{"5.10", "6.1", "6.12", "newest"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

// request is what a run is asked for.
type request struct {
	kernels  []string
	packages []suite
	verbose  bool
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	req, err := parse(args)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "wirelab-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	programs, err := buildTests(ctx, work, req.packages)
	if err != nil {
		return err
	}
	var machines []*machine
	for _, kernel := range req.kernels { // one after the other: they share what they are made of
		m, err := newMachine(ctx, kernel, programs)
		if err != nil {
			return err
		}
		machines = append(machines, m)
	}
	reports := make([]report, len(machines))
	slots, done := make(chan struct{}, runtime.NumCPU()), make(chan int)
	go func() {
		for i, m := range slices.Backward(machines) { // the newest first: its tests take longest
			slots <- struct{}{}
			go func() {
				reports[i] = m.run(ctx)
				<-slots
				done <- i
			}()
		}
	}()
	for range machines {
		reports[<-done].print(stdout, req.verbose)
	}
	return judge(reports, req.packages)
}

func parse(args []string) (request, error) {
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	only := flags.String("kernel", "", "comma-separated kernels; all when empty: "+strings.Join(kernels, ", "))
	pattern := flags.String("run", "", "run the tests of the packages that this matches, as go test has it")
	verbose := flags.Bool("v", false, "print all that tests and kernels say")
	if err := flags.Parse(args); err != nil {
		return request{}, err
	}
	req := request{kernels: kernels, packages: chosen, verbose: *verbose}
	if *only != "" {
		req.kernels = strings.Split(*only, ",")
	}
	for _, k := range req.kernels {
		if !slices.Contains(kernels, k) {
			return request{}, fmt.Errorf("-kernel %s: it is one of %s", k, strings.Join(kernels, ", "))
		}
	}
	if (*pattern == "") != (flags.NArg() == 0) {
		return request{}, errors.New("-run and packages go together: -run TestClsact ./datapath")
	}
	if *pattern != "" {
		req.packages = nil
		for _, p := range flags.Args() {
			req.packages = append(req.packages, suite{folder: filepath.Clean(p), pattern: *pattern})
		}
	}
	return req, nil
}

// program is a package's tests, built.
type program struct {
	suite
	path string
}

func buildTests(ctx context.Context, work string, packages []suite) ([]program, error) {
	var built []program
	for _, p := range packages {
		path := filepath.Join(work, filepath.Base(p.folder)+".test")
		if slices.ContainsFunc(built, func(b program) bool { return b.path == path }) {
			built = append(built, program{p, path})
			continue
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags", "-s -w", "-o", path, "./"+p.folder)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // there are no libraries
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the tests of %s: %w\n%s", p.folder, err, out)
		}
		built = append(built, program{p, path})
	}
	return built, nil
}

// timeout is for one machine: emulated, a test takes some ten times as long as here.
const timeout = 20 * time.Minute
