package doctor

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// tunnelProbe tries what it takes to reach other nodes' pods by a tunnel.
func tunnelProbe(protocol string) probe {
	return probe{
		name: protocol + " devices", try: func() error { return haveTunnel(protocol) },
		mend: "load the module " + protocol + ", boot a kernel that has it, or set network.tunnelProtocol to another one",
	}
}

// haveTunnel makes a device as the nodes' are, in a network namespace of its own, which goes with the thread that is in it.
func haveTunnel(protocol string) error {
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
		return err
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
		return lack{what: protocol + " devices", err: ebpf.ErrNotSupported}
	}
	if err != nil {
		return fmt.Errorf("make a %s device: %w", protocol, err)
	}
	return nil
}
