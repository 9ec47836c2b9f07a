package netnstest

import (
	"net/netip"
	"os"
	"sync"
	"testing"

	"golang.org/x/net/ipv4"
)

func here(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestDoComesHome(t *testing.T) {
	a, b := New(t, "a"), New(t, "b")
	home := here(t)
	a.Do(func() {
		inA := here(t)
		if inA == home {
			t.Error("the thread is not in the namespace")
		}
		b.Do(func() {
			if inB := here(t); inB == inA || inB == home {
				t.Error("the thread is not in the inner namespace")
			}
		})
		if here(t) != inA {
			t.Error("the thread is not back in the outer namespace")
		}
	})
	if here(t) != home {
		t.Error("the thread is not home")
	}
}

// A test that ends in a namespace leaves by the same door.
func TestDoComesHomeFromGoexit(t *testing.T) {
	a := New(t, "a")
	home := here(t)
	var ended sync.WaitGroup
	ended.Go(func() {
		defer func() {
			if here(t) != home {
				t.Error("the thread is not home")
			}
			recover()
		}()
		a.Do(func() { panic("as FailNow does, this skips what follows") })
	})
	ended.Wait()
}

func TestHostsReachEachOther(t *testing.T) {
	n := NewNetwork(t)
	a, b := n.AddHost("a"), n.AddHost("b")
	eth := b.Capture(NIC)
	echo, err := a.Ping(b.Addr, PingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if echo.From != b.Addr || echo.Type != ipv4.ICMPTypeEchoReply || echo.TTL != 64 {
		t.Errorf("got %+v", echo)
	}
	if len(eth.Frames()) < 2 {
		t.Error("request and reply are not captured")
	}
	b.ServeTCP(netip.AddrPortFrom(b.Addr, 80))
	b.ServeUDP(netip.AddrPortFrom(b.Addr, 80))
	for _, network := range []string{"tcp4", "udp4"} {
		seen, err := a.Ask(network, netip.AddrPortFrom(b.Addr, 80), []byte("hello"))
		if err != nil || seen != a.Addr {
			t.Errorf("%s: the server saw %s (%v)", network, seen, err)
		}
		if _, err := a.Ask(network, netip.AddrPortFrom(b.Addr, 81), []byte("hello")); err == nil {
			t.Errorf("%s: somebody answered on a port where nobody listens", network)
		}
	}
}

func TestBPFFSIsTheHostsOwn(t *testing.T) {
	n := NewNetwork(t)
	a, b := n.AddHost("a"), n.AddHost("b")
	if err := os.Mkdir(a.BPFFS+"/mine", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.BPFFS + "/mine"); !os.IsNotExist(err) {
		t.Errorf("the other host has it too: %v", err)
	}
}
