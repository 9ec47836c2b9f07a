package datapath_test

import (
	"context"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath"
)

// changesOn are the parts that changes on a node concern, from now on until the test ends.
func changesOn(t *testing.T, n *node) <-chan datapath.Parts {
	t.Helper()
	var f *datapath.Follower
	n.Do(func() {
		var err error
		f, err = n.dp.Follow()
		must(t, err)
	})
	ctx, cancel := context.WithCancel(ctx(t))
	heard, done := make(chan datapath.Parts, 64), make(chan error)
	go func() { done <- f.Run(ctx, func(p datapath.Parts) { heard <- p }) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return heard
}

// The messages of the kernel about an endpoint that is made and deleted have nobody look for damage. Those about what others do to
// its veth have.
func TestOwnEndpointsAreNoDamage(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	heard := changesOn(t, n)
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

// Rules of others count where they may be in the way of ours: not in other tables, in those of IPv6, or in chains of their own.
func TestRulesOfOthers(t *testing.T) {
	n := newLab(t, 1).nodes[0]
	for _, table := range []string{"nat", "raw", "mangle", "filter"} {
		n.Run("iptables", "-t", table, "-N", "KUBE-OTHERS") // the first makes the chains of the kernel
	}
	n.Run("ip6tables", "-t", "nat", "-N", "KUBE-OTHERS")
	heard := changesOn(t, n)
	// What is heard up to the sign is of what was done before it, and of nothing that comes after it.
	sign := func() (before datapath.Parts) {
		t.Helper()
		for _, verb := range []string{"-A", "-D"} {
			n.Run("iptables", "-t", "raw", verb, "OUTPUT", "-j", "ACCEPT")
			for there := datapath.Parts(0); there&datapath.PartRaw == 0; before |= there {
				select {
				case there = <-heard:
				case <-time.After(10 * time.Second):
					t.Fatal("no change was heard of")
				}
			}
		}
		return before
	}
	sign()
	for _, other := range [][]string{
		{"iptables", "-t", "nat", "-A", "KUBE-OTHERS", "-j", "RETURN"}, {"iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "ACCEPT"},
		{"iptables", "-t", "filter", "-A", "OUTPUT", "-j", "ACCEPT"}, {"ip6tables", "-t", "nat", "-A", "POSTROUTING", "-j", "ACCEPT"},
	} {
		n.Run(other...)
		if parts := sign(); parts != datapath.PartRaw {
			t.Errorf("%q counts as a change of ours (%b)", other, parts)
		}
	}
	for _, chain := range []string{"PREROUTING", "POSTROUTING", "OUTPUT"} {
		n.Run("iptables", "-t", "nat", "-A", chain, "-j", "ACCEPT")
		if parts := sign(); parts != datapath.PartNAT|datapath.PartRaw {
			t.Errorf("a rule in %s is not heard of (%b)", chain, parts)
		}
	}
	n.Run("iptables", "-t", "nat", "-F", "POSTROUTING")
	if parts := sign(); parts&datapath.PartNAT == 0 {
		t.Errorf("rules that go are not heard of (%b)", parts)
	}
}
