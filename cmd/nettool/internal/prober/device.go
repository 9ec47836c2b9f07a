package prober

import (
	"fmt"
	"net"
)

// device finds a device by name and its first IPv4 address, which may be nil.
func device(name string) (*net.Interface, net.IP, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("find device %q: %w", name, err)
	}
	addresses, err := dev.Addrs()
	if err != nil {
		return nil, nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	for _, address := range addresses {
		if prefix, ok := address.(*net.IPNet); ok && prefix.IP.To4() != nil {
			return dev, prefix.IP.To4(), nil
		}
	}
	return dev, nil, nil
}
