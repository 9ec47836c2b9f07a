package services

import (
	"context"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// Loop makes the datapath's Services those of the API server. All of its fields are required.
type Loop struct {
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

	reread time.Time
	ports  portSet
}

// portSet has a bit for each port.
type portSet [1024]uint64

func (s *portSet) add(port uint16) { s[port/64] |= 1 << (port % 64) }

// outerPorts are those of all frontends that are no ClusterIPs, on whatever address.
func outerPorts(services []lb.Service, hostPorts []lb.HostPort) (ports portSet) {
	for _, s := range services {
		for _, f := range s.Frontends {
			if f.Kind != lb.ClusterIP {
				ports.add(f.Port)
			}
		}
	}
	for _, p := range hostPorts {
		ports.add(p.Port)
	}
	return ports
}

// Apply brings the maps up to date.
func (l *Loop) Apply(ctx context.Context) error {
	began := time.Now()
	hostPorts, podsLeftOut, err := l.HostPorts()
	if err != nil {
		return err
	}
	zone, err := l.Zone()
	if err != nil {
		return err
	}
	now, err := l.Watch.refresh()
	if err != nil {
		return err
	}
	if time.Since(l.reread) > l.Reread {
		l.Services.Reload() // mends what others have changed in the maps
		l.reread = began
	}
	checksLeftOut := l.Checks.apply(now.checks)
	err = l.Services.Apply(ctx, lb.State{Services: now.services, HostPorts: hostPorts, Zone: zone})
	if err != nil {
		return err
	}
	l.Report.Set(l.Services.Skipped(), podsLeftOut, now.leftOut, checksLeftOut)
	l.Metrics.observe(time.Since(began), now.changed)
	if ports := outerPorts(now.services, hostPorts); ports != l.ports {
		l.ports = ports
		l.PortsChanged()
	}
	return nil
}

// Collect takes flows that are over out of the maps, and puts back entries that were lost.
func (l *Loop) Collect(ctx context.Context) error {
	got, err := l.Services.Collect(ctx)
	l.Metrics.observeCollected(got)
	return err
}
