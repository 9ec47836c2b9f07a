package tap

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// device is one of the calling thread's network namespace.
type device struct {
	index, peer int
	name, alias string
	mac         net.HardwareAddr
	kind        uint16 // unix.ARPHRD_ETHER and the like
}

func devices() ([]device, error) {
	dump, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []device
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		d := device{kind: binary.NativeEndian.Uint16(m.Data[2:]), index: int(binary.NativeEndian.Uint32(m.Data[4:]))}
		for _, a := range attrs {
			switch text := strings.TrimRight(string(a.Value), "\x00"); a.Attr.Type {
			case unix.IFLA_IFNAME:
				d.name = text
			case unix.IFLA_IFALIAS:
				d.alias = text
			case unix.IFLA_ADDRESS:
				d.mac = a.Value
			case unix.IFLA_LINK:
				d.peer = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// named finds a device by its name.
func named(name string) (device, error) {
	all, err := devices()
	if err != nil {
		return device{}, err
	}
	var there []string
	for _, d := range all {
		if d.name == name {
			return d, nil
		}
		if d.alias != "" {
			d.name += " (" + d.alias + ")"
		}
		there = append(there, d.name)
	}
	return device{}, fmt.Errorf("no device %q: there are %s", name, strings.Join(there, ", "))
}

// indexed finds a device by its index.
func indexed(index int) (device, error) {
	all, err := devices()
	if err != nil {
		return device{}, err
	}
	for _, d := range all {
		if d.index == index {
			return d, nil
		}
	}
	return device{}, fmt.Errorf("no device of index %d", index)
}

// addressed finds the device that has an address.
func addressed(address netip.Addr) (device, error) {
	all, err := net.Interfaces()
	if err != nil {
		return device{}, fmt.Errorf("list devices: %w", err)
	}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			return device{}, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == address {
				return indexed(i.Index)
			}
		}
	}
	return device{}, fmt.Errorf("no device has the address %s", address)
}
