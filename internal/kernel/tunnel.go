// Package kernel finds out what a kernel has by trying it.
package kernel

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNoTunnel means that a kernel has no devices for a tunnel's protocol.
var ErrNoTunnel = errors.New("this kernel has no devices for the tunnel's protocol")

// TryTunnel makes a device for a tunnel by "vxlan" or "geneve", as nodes have it, in a network namespace of its own, which goes
// with the thread that is in it. The kernel may load its module for that. The error wraps [ErrNoTunnel] where there is none.
func TryTunnel(protocol string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		done <- makeTunnel(protocol)
	}()
	return <-done
}

func makeTunnel(protocol string) error {
	ns, err := netns.New()
	if err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe"
	var device netlink.Link = &netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: 8472}
	if protocol == "geneve" {
		device = &netlink.Geneve{LinkAttrs: attrs, FlowBased: true, Dport: 6081}
	}
	err = netlink.LinkAdd(device)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w (%s)", ErrNoTunnel, protocol)
	}
	if err != nil {
		return fmt.Errorf("make a %s device: %w", protocol, err)
	}
	return nil
}
