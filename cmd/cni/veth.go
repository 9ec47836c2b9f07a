package main

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
)

// deleteHostIf removes the node's end of a veth, and with it the pod's. One
// that is not there is fine: DEL may come twice.
func deleteHostIf(name string) error {
	link, err := netlink.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return types.NewError(types.ErrIOFailure, "delete "+name+" without the wirelab agent", err.Error())
	}
	return nil
}
