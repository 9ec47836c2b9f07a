package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Commands of the CNI specification that the plugin hands to the agent.
const (
	CNIAdd    = "ADD"
	CNIDel    = "DEL"
	CNICheck  = "CHECK"
	CNIGC     = "GC"
	CNIStatus = "STATUS"
)

// CNIRequest is one call of the container runtime. ADD and CHECK come with a
// descriptor of the pod's network namespace (see [CallCNI]).
type CNIRequest struct {
	Command     string `json:"command"`
	ContainerID string `json:"containerID,omitempty"`
	IfName      string `json:"ifName,omitempty"`
	Namespace   string `json:"namespace,omitempty"` // of the pod; empty outside Kubernetes
	Pod         string `json:"pod,omitempty"`
	PodUID      string `json:"podUID,omitempty"` // tells pods of one name apart; may be empty
	// Addrs are the addresses the runtime believes the pod to have, for CHECK.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Valid are the attachments that stay, for GC. All others go.
	Valid []CNIAttachment `json:"valid,omitempty"`
}

// CNIAttachment names one interface of one container.
type CNIAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// CNIReply answers a CNIRequest. Endpoint is set after a successful ADD only.
type CNIReply struct {
	Error    *CNIError    `json:"error,omitempty"`
	Endpoint *CNIEndpoint `json:"endpoint,omitempty"`
}

// CNIEndpoint is what ADD made.
type CNIEndpoint struct {
	Endpoint
	Router netip.Addr `json:"router"` // next hop of the pod's default route
}

// CNIError is an error in the terms of the CNI specification: codes 1 to 99
// are the specification's, those from 100 are ours.
type CNIError struct {
	Code    uint   `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details,omitempty"`
}

// Error returns the message, with the details behind it.
func (e *CNIError) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + ": " + e.Details
}

// Error codes. 11 is the CNI specification's.
const (
	CNITryAgain = 11  // transient: the runtime should call again
	CNIFailed   = 100 // the datapath refused
	CNIMismatch = 101 // CHECK found something else than ADD had made
)

// ErrAgentDown says that nobody listens on the agent's socket.
var ErrAgentDown = errors.New("the wirelab agent does not answer on this node")

// maxCNIMessage bounds what is read from the socket. A GC request lists every
// attachment of the node, about 100 bytes each.
const maxCNIMessage = 1 << 20

// CallCNI sends one request to the agent at socket and returns its reply.
// netns, which may be nil, travels along as a descriptor. Errors wrap
// [ErrAgentDown] when nobody listens; ctx must have a deadline. An error
// inside the reply is not an error of CallCNI.
func CallCNI(ctx context.Context, socket string, req CNIRequest, netns *os.File) (CNIReply, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return CNIReply{}, fmt.Errorf("%w (%s)", ErrAgentDown, socket)
		}
		return CNIReply{}, fmt.Errorf("connect to the agent: %w", err)
	}
	conn := c.(*net.UnixConn)
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return CNIReply{}, fmt.Errorf("set a deadline on %s: %w", socket, err)
		}
	}
	if err := sendCNIRequest(conn, req, netns); err != nil {
		return CNIReply{}, fmt.Errorf("send %s to the agent: %w", req.Command, err)
	}
	var reply CNIReply
	if err := readJSON(conn, &reply); err != nil {
		return CNIReply{}, fmt.Errorf("read the agent's reply to %s: %w", req.Command, err)
	}
	return reply, nil
}

// sendCNIRequest sends a byte that carries the descriptor, then the request,
// then the end of the stream. The byte is apart because a stream socket may
// take a long message in pieces, a descriptor only with the first.
func sendCNIRequest(conn *net.UnixConn, req CNIRequest, netns *os.File) error {
	var rights []byte
	if netns != nil {
		rights = syscall.UnixRights(int(netns.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix([]byte{cniWireVersion}, rights, nil); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return err
	}
	return conn.CloseWrite()
}

// cniWireVersion is the first byte of every request.
const cniWireVersion = 1

// ReceiveCNI reads one request and the descriptor that came with it, which is
// nil when there was none and otherwise the caller's to close.
func ReceiveCNI(conn *net.UnixConn, deadline time.Time) (CNIRequest, *os.File, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return CNIRequest{}, nil, fmt.Errorf("set a deadline: %w", err)
	}
	first := make([]byte, 1)
	oob := make([]byte, syscall.CmsgSpace(4*maxDescriptors))
	n, oobn, _, _, err := conn.ReadMsgUnix(first, oob)
	if err != nil {
		return CNIRequest{}, nil, fmt.Errorf("read the request: %w", err)
	}
	netns, err := oneDescriptor(oob[:oobn])
	if err != nil {
		return CNIRequest{}, nil, err
	}
	req, err := decodeCNIRequest(conn, first[:n])
	if err != nil && netns != nil {
		netns.Close()
		netns = nil
	}
	return req, netns, err
}

func decodeCNIRequest(conn *net.UnixConn, first []byte) (CNIRequest, error) {
	var req CNIRequest
	if len(first) != 1 || first[0] != cniWireVersion {
		return req, fmt.Errorf("read the request: it does not start with version %d", cniWireVersion)
	}
	if err := readJSON(conn, &req); err != nil {
		return req, fmt.Errorf("read the request: %w", err)
	}
	return req, nil
}

// ReplyCNI answers a request. The connection stays open.
func ReplyCNI(conn *net.UnixConn, reply CNIReply) error {
	if err := json.NewEncoder(conn).Encode(reply); err != nil {
		return fmt.Errorf("send the reply: %w", err)
	}
	return nil
}

func readJSON(r io.Reader, into any) error {
	return json.NewDecoder(io.LimitReader(r, maxCNIMessage)).Decode(into)
}

// maxDescriptors is how many descriptors are received in order to refuse
// them properly; more than these are closed by the kernel.
const maxDescriptors = 4

// oneDescriptor returns the descriptor in a control message. All descriptors
// are closed when there is more than one.
func oneDescriptor(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse the control message: %w", err)
	}
	var fds []int
	for i := range msgs {
		got, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // another kind of control message
		}
		fds = append(fds, got...)
	}
	switch len(fds) {
	case 0:
		return nil, nil
	case 1:
		return os.NewFile(uintptr(fds[0]), "netns"), nil
	}
	for _, fd := range fds {
		syscall.Close(fd)
	}
	return nil, fmt.Errorf("read the request: %d descriptors came along, want one", len(fds))
}
