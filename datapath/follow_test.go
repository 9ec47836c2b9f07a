package datapath_test

import (
	"context"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
)

// The messages of the kernel about an endpoint that is made and deleted have nobody look for damage. Those about what others do to
// its veth have.
func TestOwnEndpointsAreNoDamage(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	var f *datapath.Follower
	n.Do(func() {
		var err error
		f, err = n.dp.Follow()
		must(t, err)
	})
	ctx, cancel := context.WithCancel(ctx(t))
	heard, done := make(chan datapath.Parts, 64), make(chan error)
	go func() { done <- f.Run(ctx, func(p datapath.Parts) { heard <- p }) }()
	defer func() {
		cancel()
		must(t, <-done)
	}()
	damaged, putDown := n.addPod("damaged"), n.addPod("down")
	for range 3 {
		n.delete(n.addPod("short").spec)
	}
	// Messages come in their order: what is heard before the sign is of what was done before it.
	sign := func() (before datapath.Parts) {
		t.Helper()
		n.Run("ip", "rule", "add", "priority", "7", "lookup", "main")
		defer n.Run("ip", "rule", "del", "priority", "7")
		for {
			select {
			case p := <-heard:
				before |= p
				if p&datapath.PartRoutes != 0 {
					return before
				}
			case <-time.After(10 * time.Second):
				t.Fatal("no change was heard of")
			}
		}
	}
	if parts := sign(); parts&datapath.PartEndpoints != 0 {
		t.Errorf("endpoints that were made and deleted count as damaged (%b)", parts)
	}
	n.Run("ip", "link", "set", putDown.HostIf, "down")
	if parts := sign(); parts&datapath.PartEndpoints == 0 {
		t.Errorf("nothing was heard of a veth that was put down (%b)", parts)
	}
	n.Run("ip", "link", "del", damaged.HostIf)
	if parts := sign(); parts&datapath.PartEndpoints == 0 {
		t.Errorf("nothing was heard of a veth that was deleted (%b)", parts)
	}
}
