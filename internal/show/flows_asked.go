package show

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"wirelab.dev/wirelab/internal/api"
)

// FlowsShort is the help of commands that show flows, in a line.
const FlowsShort = "Show who talked to whom, and what became of it"

// FlowsLong is their help, where whose is what has seen the flows.
func FlowsLong(whose string) string {
	return `Show the flows that ` + whose + ` saw last, with the pods and identities of both ends: packets that
were dropped, and those of the others that network.bpf.monitorAggregation has the programs
report. A node keeps the latest ones, as many as network.flows.capacity says. Where some are
missing, a line says how many. With -o json each line is an object.`
}

// lastFlows is how many flows are shown when nobody says how many.
const lastFlows = 20

// FlowsAsked are the flags that say which flows are asked for.
type FlowsAsked struct {
	filter api.FlowFilter
	since  string
	flags  *pflag.FlagSet
}

// Flags adds the flags.
func (a *FlowsAsked) Flags(f *pflag.FlagSet) {
	a.flags = f
	for _, key := range api.FlowFilterKeys() {
		f.String(key, "", FlowUsage(key))
	}
	f.BoolVar(&a.filter.NoNodes, "no-nodes", false, "not those from or to nodes, such as the kubelet's probes")
	f.BoolVarP(&a.filter.Follow, "follow", "f", false, "go on as flows come")
	f.IntVar(&a.filter.Last, "last", 0, fmt.Sprintf("how many flows to begin with; -1: all (default: %d, with --since all, with --follow none)", lastFlows))
	f.StringVar(&a.since, "since", "", "only flows of so long ago or later, as 10m, or since a time as 2026-01-02T15:04:05Z")
}

// Filter is what the flags say at now. An error is a sentence.
func (a *FlowsAsked) Filter(now time.Time) (api.FlowFilter, error) {
	f := a.filter
	for _, key := range api.FlowFilterKeys() {
		value, err := a.flags.GetString(key)
		if err != nil {
			return f, err
		}
		if value == "" {
			continue
		}
		if err := f.Set(key, value); err != nil {
			return f, err
		}
	}
	if a.since != "" {
		ago, err := time.ParseDuration(a.since)
		switch {
		case err == nil && ago > 0:
			f.Since = now.Add(-ago)
		case strings.Contains(a.since, "T"):
			err = f.Set("since", a.since)
		default:
			err = fmt.Errorf("since %q: want how long ago, as 10m, or a time as 2026-01-02T15:04:05Z", a.since)
		}
		if err != nil {
			return f, err
		}
	}
	switch {
	case a.flags.Changed("last") && f.Last == 0 && !f.Follow:
		return f, errors.New("last 0 shows nothing: want a number of flows, or -1 for all")
	case a.flags.Changed("last"):
	case a.since != "":
		f.Last = -1
	case !f.Follow:
		f.Last = lastFlows
	}
	return f, nil
}
