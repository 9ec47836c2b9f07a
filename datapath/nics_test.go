package datapath

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOutwardNICs(t *testing.T) {
	node := netip.MustParseAddr("192.0.2.1")
	ether := func(name, kind string, addrs ...string) nic {
		n := nic{name: name, kind: kind, encap: "ether", mtu: 1500}
		for _, a := range addrs {
			n.addrs = append(n.addrs, netip.MustParsePrefix(a))
		}
		return n
	}
	with := func(n nic, change func(*nic)) nic { change(&n); return n }
	leads := func(n *nic) { n.leads = true }
	for name, test := range map[string]struct {
		nic  nic
		want bool
	}{
		"the node's":                        {ether("eth0", "device", "192.0.2.1/24"), true},
		"the node's, a network of its own":  {ether("eth0", "device", "192.0.2.1/32"), true},
		"another network's":                 {ether("eth1", "device", "198.51.100.1/24"), true},
		"another of kind's networks":        {ether("eth1", "veth", "172.19.0.2/16"), true},
		"a default route":                   {with(ether("eth1", "device"), leads), true},
		"a veth's with a default route":     {with(ether("eth1", "veth", "198.51.100.1/32"), leads), true},
		"no address":                        {ether("eth1", "device"), false},
		"a container's veth":                {ether("veth1234", "veth"), false},
		"a container's veth with a gateway": {ether("veth1234", "veth", "10.1.2.1/32"), false},
		"a bond":                            {ether("bond0", "bond", "198.51.100.1/24"), true},
		"of a bond":                         {with(ether("eth1", "device", "198.51.100.1/24"), func(n *nic) { n.master = "bond" }), false},
		"of a VRF":                          {with(ether("eth1", "device", "198.51.100.1/24"), func(n *nic) { n.master = "vrf" }), true},
		"a VLAN":                            {ether("eth0.7", "vlan", "198.51.100.1/24"), true},
		"Docker's bridge":                   {with(ether("docker0", "bridge", "172.17.0.1/16"), func(n *nic) { n.ports = []string{"veth"} }), false},
		"an empty bridge":                   {ether("docker0", "bridge", "172.17.0.1/16"), false},
		"virtual machines' bridge":          {with(ether("virbr0", "bridge", "192.168.122.1/24"), func(n *nic) { n.ports = []string{"tuntap"} }), false},
		"a bridge with a NIC in it":         {with(ether("br1", "bridge", "198.51.100.1/24"), func(n *nic) { n.ports = []string{"veth", "device"} }), true},
		"the node's bridge":                 {with(ether("br0", "bridge", "192.0.2.1/24"), func(n *nic) { n.ports = []string{"veth"} }), true},
		"what holds addresses":              {ether("kube-ipvs0", "dummy", "10.96.0.1/32", "169.254.20.10/24"), false},
		"an overlay's":                      {ether("flannel.1", "vxlan", "10.244.0.0/32"), false},
	} {
		d := &Datapath{cfg: Config{NodeIP: node}}
		first := ether("first", "device", "192.0.2.1/24")
		chosen, leftOut, err := d.outwardNICs([]nic{first, test.nic})
		if err != nil || len(leftOut) != 0 {
			t.Errorf("%s: left out %v, %v", name, leftOut, err)
		}
		if got := slices.ContainsFunc(chosen, func(n nic) bool { return n.name == test.nic.name }); got != test.want {
			t.Errorf("%s: in use is %v, want %v", name, got, test.want)
		}
	}
}
