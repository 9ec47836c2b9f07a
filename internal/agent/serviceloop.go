package agent

import (
	"context"
	"log/slog"
	"time"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/reconcile"
)

// collectOften is how often flows that are over are taken out of the maps, and
// entries that were lost are put back: a far end that speaks first waits that long.
const collectOften = 10 * time.Second

// serviceLoops are the reconcilers of an agent that carries Services.
func (n *node) serviceLoops(k *kube, checks *healthChecks, m *metrics, log *slog.Logger) []*reconcile.Reconciler {
	often := reconcile.Options{Resync: resyncOften}
	s := &serviceLoop{kube: k, node: n.dp.Config().NodeName, services: n.dp.Services(), checks: checks, metrics: m, leftOut: n.leftOut, portsChanged: func() { n.loops.masquerade.Trigger(); n.loops.sysctls.Trigger() }}
	untracked := n.dp.Untracked()
	n.loops.services = reconcile.New("services", s.apply, often, log)
	n.loops.untracked = reconcile.New("untracked", func(ctx context.Context) error {
		nodes, err := k.nodeList()
		if err != nil {
			return err
		}
		return untracked.Apply(ctx, nodes)
	}, often, log)
	collect := reconcile.New("flows", func(ctx context.Context) error {
		got, err := n.dp.Services().Collect(ctx)
		m.observeCollected(got)
		return err
	}, reconcile.Options{Resync: collectOften}, log)
	return []*reconcile.Reconciler{n.loops.services, n.loops.untracked, collect}
}

// serviceLoop makes the datapath's Services those of the API server.
type serviceLoop struct {
	kube     *kube
	node     string
	services *datapath.Services
	checks   *healthChecks
	metrics  *metrics
	leftOut  *leftOut
	reloaded time.Time
	// portsChanged is called when the ports that are reached from outside are not those of before.
	portsChanged func()
	ports        portSet
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

func (s *serviceLoop) apply(ctx context.Context) error {
	began := time.Now()
	hostPorts, podsLeftOut, err := s.kube.hostPorts()
	if err != nil {
		return err
	}
	zone, err := s.kube.zone(s.node)
	if err != nil {
		return err
	}
	now, err := s.kube.services.refresh()
	if err != nil {
		return err
	}
	if time.Since(s.reloaded) > resyncOften {
		s.services.Reload() // mends what others have changed in the maps
		s.reloaded = began
	}
	checksLeftOut := s.checks.apply(now.checks)
	err = s.services.Apply(ctx, lb.State{Services: now.services, HostPorts: hostPorts, Zone: zone})
	if err != nil {
		return err
	}
	s.leftOut.set(podsLeftOut, now.leftOut, checksLeftOut, apiLeftOut(s.services.Skipped()))
	s.metrics.observeServices(time.Since(began), now.changed)
	if ports := outerPorts(now.services, hostPorts); ports != s.ports {
		s.ports = ports
		s.portsChanged()
	}
	return nil
}
