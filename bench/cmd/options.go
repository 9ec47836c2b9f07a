package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"wirelab.dev/wirelab/bench/workload"
)

// options are the command line.
type options struct {
	rounds  int
	setups  int
	window  workload.Window
	cpu     int
	parts   []string
	plugin  string
	samples string
	report  string
}

// shortWindow and manyRounds: a processor's core is slower by a quarter while another machine uses its other half, for a tenth of
// a second or for many. Two samples that are to be compared have to be nearer to each other than that.
const manyRounds = 54

func shortWindow() workload.Window {
	return workload.Window{WarmUp: 10 * time.Millisecond, Length: 40 * time.Millisecond}
}

// Parts of a run beside the workloads.
const (
	partPrograms = "programs"
	partControl  = "control"
)

func allParts() []string {
	var parts []string
	for _, k := range workload.Kinds() {
		parts = append(parts, string(k))
	}
	return append(parts, partPrograms, partControl)
}

// shares deals the rounds out to setups, of which each has one at least.
func (o options) shares() []int {
	setups := min(o.setups, o.rounds)
	if !slices.ContainsFunc(workload.Kinds(), func(k workload.Kind) bool { return o.wants(string(k)) }) {
		setups = 1
	}
	shares := make([]int, setups)
	for round := range o.rounds {
		shares[round%setups]++
	}
	return shares
}

func (o options) wants(part string) bool { return slices.Contains(o.parts, part) }

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{window: shortWindow()}
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", manyRounds, "how often every path is measured; 7 at least for a result")
	f.IntVar(&o.setups, "setups", 3, "how many setups share the rounds, one made after another: where the kernel puts one in memory counts, too")
	f.DurationVar(&o.window.WarmUp, "warm-up", o.window.WarmUp, "how long before each measurement")
	f.DurationVar(&o.window.Length, "window", o.window.Length, "how long each measurement")
	f.IntVar(&o.cpu, "cpu", runtime.NumCPU()-1, "the CPU that both ends are pinned to")
	f.StringVar(&only, "only", strings.Join(allParts(), ","), "what to measure, with commas between")
	f.StringVar(&o.plugin, "plugin", "bin/wirelab-cni", "the CNI plugin's binary")
	f.StringVar(&o.samples, "samples", "", "file for one line of JSON a sample")
	f.StringVar(&o.report, "report", "", "file for the report, besides stdout")
	if err := f.Parse(args); err != nil {
		return o, errors.Join(errUsage, err)
	}
	o.parts = strings.Split(only, ",")
	for _, part := range o.parts {
		if !slices.Contains(allParts(), part) {
			return o, fmt.Errorf("%w: -only knows no %q: use some of %s", errUsage, part, strings.Join(allParts(), ", "))
		}
	}
	if f.NArg() != 0 || o.rounds < 1 || o.setups < 1 || o.cpu < 0 || o.cpu >= runtime.NumCPU() {
		return o, fmt.Errorf("%w: no arguments, at least one round and one setup, and a CPU below %d", errUsage, runtime.NumCPU())
	}
	return o, nil
}
