package labs

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wirelab.dev/wirelab/internal/settings"
	"wirelab.dev/wirelab/labs/passport"
)

// awaited is a packet of a pod that is waited for.
type awaited struct {
	watcher *passport.Watcher
	targets []netip.AddrPort
	points  []CapturePoint
	came    chan struct{} // is closed when it has come
	replied chan struct{} // is closed when it was answered
	seen    atomic.Bool   // it has come
	ended   chan struct{} // is closed when what is run meanwhile has ended; nil: nothing was begun
	ran     bool          // that was before the packet came
}

// maxAwaiting is how many of what was seen, and of what programs told, are kept before the packet has come: some were seen
// before it was known to be the one.
const maxAwaiting = 8192

// lastWait is how long a packet is waited for when what was to send it has ended.
const lastWait = time.Second

// toAwait says what is waited for.
func (e *explaining) toAwait() error {
	if e.from.Kind != passport.Pod {
		return fmt.Errorf("wait for a packet of %s: a node sends on what others have sent, too, so name a pod, or leave --watch out", e.from.Name)
	}
	p := &e.in.Probe
	p.Port, p.Marker = 0, ""
	e.awaited = &awaited{
		targets: e.to.targets(p.Target.Port(), p.Protocol),
		came:    make(chan struct{}), replied: make(chan struct{}),
	}
	e.awaited.watcher = passport.NewWatcher(*p, e.awaited.targets)
	if e.lab.Profile.Network.BPF.MonitorAggregation == settings.AggregationMedium {
		e.in.Notes = append(e.in.Notes, "programs tell of the first packets of a flow alone, as network.bpf.monitorAggregation is medium: with none they tell of each")
	}
	return nil
}

// noted says, for nft, of which packets hooks take note, and by what.
func (a *awaited) noted(protocol string) (matches []string, key string) {
	if protocol == passport.ICMP {
		return []string{"icmp type { echo-request, echo-reply }"}, keyOfEcho
	}
	var ports []string
	for _, t := range a.targets {
		if port := strconv.Itoa(int(t.Port())); !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	set := "{ " + strings.Join(ports, ", ") + " }"
	return []string{protocol + " dport " + set, protocol + " sport " + set}, keyOfPorts
}

// see takes what was captured.
func (a *awaited) see(s passport.Sight) {
	if a == nil {
		return
	}
	came, replied := a.watcher.See(pointOf(a.points[s.Point]), s)
	if came && !a.seen.Swap(true) {
		close(a.came)
	}
	if replied {
		select {
		case <-a.replied:
		default:
			close(a.replied)
		}
	}
}

// boundedBy leaves the last ones as long as the packet is waited for. A nil a is no bound.
func boundedBy[T any](a *awaited, all []T) []T {
	if a == nil || a.seen.Load() || len(all) < 2*maxAwaiting {
		return all
	}
	return slices.Delete(all, 0, len(all)-maxAwaiting)
}

// await waits for the packet and its answer. What is run meanwhile may go on.
func (e *explaining) await(ctx context.Context) {
	a := e.awaited
	late := time.After(e.options.Watch)
	if e.options.Watching != nil {
		e.options.Watching()
	}
	if run := e.options.Meanwhile; run != nil {
		a.ended = make(chan struct{})
		go func() { defer close(a.ended); run(ctx) }()
	}
	running := a.ended
	for !a.seen.Load() {
		select {
		case <-a.came:
		case <-running:
			running, late, a.ran = nil, time.After(lastWait), true
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
	select {
	case <-a.replied:
	case <-time.After(answerWithin):
	case <-ctx.Done():
	}
}

// toEnd waits for what is run meanwhile, if anything is.
func (a *awaited) toEnd() {
	if a != nil && a.ended != nil {
		<-a.ended
	}
}

// noneCame says that no packet came.
func (e *explaining) noneCame() error {
	p := e.in.Probe
	to := p.To.Name
	if p.Target.Port() != 0 {
		to += fmt.Sprintf(":%d", p.Target.Port())
	}
	what := fmt.Sprintf("no %s packet from %s to %s came", p.Protocol, p.From.Name, to)
	if e.awaited.ran {
		return fmt.Errorf("%s while the command ran: that is run on this machine, and lab shell %s -- COMMAND runs one there", what, p.From.Name)
	}
	return fmt.Errorf("%s within %s: have one sent meanwhile, or wait longer with --timeout", what, e.options.Watch)
}
