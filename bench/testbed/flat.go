package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

const (
	// flatServices is how many Services, and connections, Flat takes the mean of: how far an entry is from its
	// place in a map's table, and which of the CPU's caches it shares with others, is chance.
	flatServices = 10
	// flatTurns is how often Flat measures with few Services and with many.
	flatTurns = 5
)

// Flatness is what looking a Service up takes when there are few of them, and when there are many.
type Flatness struct {
	// Few and Many are a pod's first program for a packet that opens a connection to a Service.
	Few, Many Cost
	// TableFew and TableMany are a program that looks one entry up in a hash table of as many, and does nothing
	// else: what the processor's caches do to any program.
	TableFew, TableMany Cost
}

// Flat measures in turn with few Services and with many.
func (c *Cluster) Flat(ctx context.Context, few, many int) (f Flatness, err error) {
	if err := c.serve(ctx, few); err != nil {
		return f, err
	}
	openings, err := c.openings()
	if err != nil {
		return f, err
	}
	for range flatTurns {
		for _, turn := range []struct {
			services  int
			ours, any *Cost
		}{{few, &f.Few, &f.TableFew}, {many, &f.Many, &f.TableMany}} {
			if err := c.serve(ctx, turn.services); err != nil {
				return f, err
			}
			ours, err := costs(true, openings...)
			if err != nil {
				return f, err
			}
			table, err := lookups(turn.services, openings)
			if err != nil {
				return f, err
			}
			turn.ours.add(ours)
			turn.any.add(table)
		}
	}
	for _, sum := range []*Cost{&f.Few, &f.Many, &f.TableFew, &f.TableMany} {
		sum.Took /= flatTurns * flatServices
		sum.Empty /= flatTurns * flatServices
	}
	return f, nil
}

func (c *Cost) add(list []Cost) {
	for _, one := range list {
		c.Program = one.Program
		c.Took += one.Took
		c.Empty += one.Empty
	}
}

// openings are the first packets of connections to as many Services.
func (c *Cluster) openings() ([]subject, error) {
	var subjects []subject
	for i := range flatServices {
		f, err := c.establish(netip.AddrPortFrom(clusterIP(i), servicePort))
		if err != nil {
			return nil, fmt.Errorf("connect a pod to a Service: %w", err)
		}
		opening, err := c.fromPod(f, true)
		if err := errors.Join(err, f.close()); err != nil {
			return nil, err
		}
		subjects = append(subjects, opening)
	}
	return subjects, nil
}

// serve gives the first node n Services, the first of which all lead to the cluster's backend.
func (c *Cluster) serve(ctx context.Context, n int) error {
	list := withOneBackend(services(n, c.backend(), c.Nodes[1].cfg.NodeName)) // for two there is no room
	for i := range flatServices {
		list[i].Backends = list[n/2].Backends
	}
	if err := c.Nodes[0].reconcile(ctx, list); err != nil {
		return fmt.Errorf("give a node %d Services: %w", n, err)
	}
	return nil
}

// lookups measures, in the place of each of the subjects, a program that looks an entry up in a table of n.
func lookups(n int, at []subject) (list []Cost, err error) {
	t, err := newTable(n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	subjects := slices.Clone(at)
	for i := range subjects {
		id, err := t.lookup(i * n / len(at))
		if err != nil {
			return nil, err
		}
		subjects[i].program = Program{Name: "a look-up", id: id, ifindex: at[i].program.ifindex}
	}
	return costs(true, subjects...)
}
