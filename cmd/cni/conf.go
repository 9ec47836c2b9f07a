package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"wirelab.dev/wirelab/internal/api"
)

// conf is the plugin's part of the network configuration. The runtime adds
// keys of its own, so unknown ones are not refused here.
type conf struct {
	types.NetConf
	// Socket is where the agent listens; api.CNISocket when empty.
	Socket string `json:"socket,omitempty"`
}

func parseConf(stdin []byte) (*conf, error) {
	c := &conf{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode the network configuration", err.Error())
	}
	if c.Socket == "" {
		c.Socket = api.CNISocket
	}
	if err := version.ParsePrevResult(&c.NetConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode prevResult", err.Error())
	}
	return c, nil
}

// podArgs are the keys of CNI_ARGS that Kubernetes runtimes set.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE types.UnmarshallableString //nolint:revive // the key's name is the field's
	K8S_POD_NAME      types.UnmarshallableString //nolint:revive
	K8S_POD_UID       types.UnmarshallableString //nolint:revive
}

// request is the call as the agent wants it, the same for all commands about
// one interface.
func request(command string, args *skel.CmdArgs) (api.CNIRequest, error) {
	pod := podArgs{CommonArgs: types.CommonArgs{IgnoreUnknown: true}}
	if err := types.LoadArgs(args.Args, &pod); err != nil {
		return api.CNIRequest{}, types.NewError(types.ErrInvalidEnvironmentVariables, "parse CNI_ARGS", err.Error())
	}
	return api.CNIRequest{
		Command:     command,
		ContainerID: args.ContainerID,
		IfName:      args.IfName,
		Namespace:   string(pod.K8S_POD_NAMESPACE),
		Pod:         string(pod.K8S_POD_NAME),
		PodUID:      string(pod.K8S_POD_UID),
	}, nil
}

// expectedAddrs are the addresses that prevResult gives the interface that is
// being checked, sorted.
func expectedAddrs(c *conf, ifName string) ([]netip.Addr, error) {
	if c.PrevResult == nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "check needs prevResult, the result of ADD", "")
	}
	result, err := current.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "convert prevResult", err.Error())
	}
	addrs, err := addrsOf(result, ifName)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "read prevResult", err.Error())
	}
	return addrs, nil
}

func addrsOf(result *current.Result, ifName string) ([]netip.Addr, error) {
	index := slices.IndexFunc(result.Interfaces, func(i *current.Interface) bool {
		return i != nil && i.Name == ifName && i.Sandbox != ""
	})
	if index < 0 {
		return nil, fmt.Errorf("it has no interface %s in a sandbox", ifName)
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		if ip == nil || ip.Interface == nil || *ip.Interface != index {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return nil, errors.New("it has an address that is none")
		}
		addrs = append(addrs, addr.Unmap())
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("it gives %s no address", ifName)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}
