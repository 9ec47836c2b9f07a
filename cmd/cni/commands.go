package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"wirelab.dev/wirelab/internal/api"
)

// How long one call may take. The kubelet gives the runtime two minutes for a
// sandbox, of which this is a small part.
const callTimeout = 30 * time.Second

// How long an agent that is not there is waited for. A restart takes a second
// or two, and should neither fail a pod's start nor, as STATUS decides over
// the node's Ready condition, take the node out of service. The kubelet looks
// every 5 s and gives up on a runtime that is silent for 30 s.
const (
	addPatience    = 2 * time.Second
	statusPatience = 10 * time.Second
	retryEvery     = 50 * time.Millisecond
)

// configured calls do with the network configuration that the runtime gives.
func configured(do func(*conf, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		c, err := parseConf(args.StdinData)
		if err != nil {
			return err
		}
		return do(c, args)
	}
}

func cmdAdd(c *conf, args *skel.CmdArgs) error {
	if c.PrevResult != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "put wirelab-cni first in its chain: it makes the interface, and got the result of another plugin", "")
	}
	reply, err := callWithNetns(c, api.CNIAdd, args, nil)
	if err != nil {
		return err
	}
	if reply.Endpoint == nil {
		return types.NewError(api.CNIFailed, "the agent answered ADD without an endpoint", "")
	}
	return types.PrintResult(addResult(args, c, reply.Endpoint), c.CNIVersion)
}

func cmdCheck(c *conf, args *skel.CmdArgs) error {
	want, err := expectedAddrs(c, args.IfName)
	if err != nil {
		return err
	}
	_, err = callWithNetns(c, api.CNICheck, args, func(r *api.CNIRequest) { r.Addrs = want })
	return err
}

func cmdDel(c *conf, args *skel.CmdArgs) error {
	req, err := request(api.CNIDel, args)
	if err != nil {
		return err
	}
	_, err = call(c, req, nil, 0)
	if errors.Is(err, api.ErrAgentDown) {
		// The agent drops the address and the map entry of a device that
		// is gone when it starts.
		return deleteHostIf(api.HostIfName(args.ContainerID, args.IfName))
	}
	return cniError(err, types.ErrTryAgainLater)
}

func cmdGC(c *conf, _ *skel.CmdArgs) error {
	req := api.CNIRequest{Command: api.CNIGC}
	for _, a := range c.ValidAttachments {
		req.Valid = append(req.Valid, api.CNIAttachment{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	_, err := call(c, req, nil, addPatience)
	return cniError(err, types.ErrTryAgainLater)
}

func cmdStatus(c *conf, _ *skel.CmdArgs) error {
	_, err := call(c, api.CNIRequest{Command: api.CNIStatus}, nil, statusPatience)
	return cniError(err, types.ErrPluginNotAvailable)
}

// callWithNetns asks the agent about args' interface and hands it the pod's
// network namespace.
func callWithNetns(c *conf, command string, args *skel.CmdArgs, edit func(*api.CNIRequest)) (api.CNIReply, error) {
	req, err := request(command, args)
	if err != nil {
		return api.CNIReply{}, err
	}
	if edit != nil {
		edit(&req)
	}
	netns, err := os.Open(args.Netns)
	if err != nil {
		return api.CNIReply{}, types.NewError(types.ErrInvalidNetNS, "open the network namespace of the pod", err.Error())
	}
	defer netns.Close()
	reply, err := call(c, req, netns, addPatience)
	return reply, cniError(err, types.ErrTryAgainLater)
}

// call asks the agent, for as long as patience if none is there. An error in
// the reply is returned as a *types.Error.
func call(c *conf, req api.CNIRequest, netns *os.File, patience time.Duration) (api.CNIReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	giveUp := time.Now().Add(patience)
	for {
		reply, err := api.CallCNI(ctx, c.Socket, req, netns)
		if errors.Is(err, api.ErrAgentDown) && time.Now().Before(giveUp) {
			time.Sleep(retryEvery)
			continue
		}
		if err != nil {
			return reply, err
		}
		if e := reply.Error; e != nil {
			return reply, types.NewError(e.Code, e.Msg, e.Details)
		}
		return reply, nil
	}
}

// cniError gives an error that has no code of the specification this one.
func cniError(err error, code uint) error {
	var coded *types.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return types.NewError(code, "ask the wirelab agent", err.Error())
}
