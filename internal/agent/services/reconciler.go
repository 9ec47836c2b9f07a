package services

import (
	"context"
	"errors"
	"slices"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// Reconciler makes the datapath's Services those of the API server. All of its fields are required.
type Reconciler struct {
	Watch *Watch
	// HostPorts are those of the node's pods, with what is left out of them. Zone is the node's.
	HostPorts func() ([]lb.HostPort, []api.LeftOut, error)
	Zone      func() (string, error)
	Services  *datapath.Services
	Checks    *HealthChecks
	Metrics   *Metrics
	Report    *Report
	// Reread is how often the maps are read again, to mend what others have changed in them.
	Reread time.Duration
	// PortsChanged is called when the ports that are reached from outside are not those of before.
	PortsChanged func()

	reread  time.Time
	applied bool // all that the Watch has refreshed, with the hostPorts and in the zone
	// what the latest Apply was of, or came to
	hostPorts []lb.HostPort
	zone      string
	ports     portSet
	reported  reported
}

// reported is what is left out, but for what the Watch says.
type reported struct {
	pods, checks []api.LeftOut
	leftOut      []api.LeftOut
}

func (r reported) equal(o reported) bool {
	return slices.Equal(r.pods, o.pods) && slices.Equal(r.checks, o.checks) && slices.Equal(r.leftOut, o.leftOut)
}

// portSet has a bit for each port.
type portSet [1024]uint64

func (s *portSet) add(port uint16) { s[port/64] |= 1 << (port % 64) }

// outerPorts are the ports at which frontends that are no ClusterIPs, and host ports, are reached, on whatever address.
func outerPorts(frontends map[uint16]int, hostPorts []lb.HostPort) (ports portSet) {
	for port := range frontends {
		ports.add(port)
	}
	for _, p := range hostPorts {
		ports.add(p.Port)
	}
	return ports
}

// Apply brings the maps up to date. What has not changed costs nothing, but for a look at everything now and then.
func (r *Reconciler) Apply(ctx context.Context) error {
	began := time.Now()
	hostPorts, podsLeftOut, err := r.HostPorts()
	if err != nil {
		return err
	}
	zone, err := r.Zone()
	if err != nil {
		return err
	}
	now, err := r.Watch.refresh()
	if err != nil {
		r.applied = false // some may have been refreshed
		return err
	}
	whole := !r.applied || zone != r.zone || !slices.Equal(hostPorts, r.hostPorts)
	r.applied, r.zone, r.hostPorts = false, zone, hostPorts // what was refreshed is said once
	if time.Since(r.reread) > r.Reread {
		r.Services.Reload() // mends what others have changed in the maps
		r.reread, whole = began, true
	}
	left := reported{pods: podsLeftOut, checks: r.reported.checks}
	if now.checks || whole || len(r.reported.checks) > 0 { // a port that was taken may be free by now
		left.checks = r.Checks.apply(r.Watch.allChecks())
	}
	if err := r.balance(ctx, now.services, whole); err != nil {
		return err
	}
	r.applied = true
	left.leftOut = r.Services.LeftOut()
	if whole || now.leftOut || !left.equal(r.reported) {
		r.reported = left
		r.Report.Set(left.leftOut, left.pods, left.checks, r.Watch.allLeftOut())
	}
	r.Metrics.observe(time.Since(began), now.known)
	if whole || now.outer {
		if ports := outerPorts(r.Watch.outer, hostPorts); ports != r.ports {
			r.ports = ports
			r.PortsChanged()
		}
	}
	return nil
}

// balance carries the Services that have changed, or all.
func (r *Reconciler) balance(ctx context.Context, changed map[lb.Name][]lb.Service, whole bool) error {
	if !whole {
		err := r.Services.Change(ctx, changed)
		if !errors.Is(err, lb.ErrWhole) {
			return err
		}
	}
	return r.Services.Apply(ctx, lb.State{Services: r.Watch.all(), HostPorts: r.hostPorts, Zone: r.zone})
}

// Collect takes flows that are over out of the maps, and puts back entries that were lost.
func (r *Reconciler) Collect(ctx context.Context) error {
	got, err := r.Services.Collect(ctx)
	r.Metrics.ObserveCollected(got)
	return err
}
