// Package datapath is a node's data plane: it loads and attaches the BPF programs, keeps their maps, and
// makes devices, routes, sysctls and iptables chains match what it is told. It knows no Kubernetes type.
//
// All state is in the kernel: pinned links and maps, netlink objects, iptables chains of its own. A
// process that stops leaves pods and their traffic as they are; the next one picks up from there.
package datapath

import (
	"context"
	"errors"
	"log/slog"
)

var (
	// ErrNoTCX is wrapped by errors on kernels that cannot attach programs to tcx (before 6.6).
	ErrNoTCX = errors.New("this kernel has no tcx")
	// ErrAddrInUse is wrapped by AddEndpoint's error when a live endpoint has the address already.
	ErrAddrInUse = errors.New("address is in use")
	// ErrUnknownEndpoint is wrapped by CheckEndpoint's error when there is no such endpoint at all.
	ErrUnknownEndpoint = errors.New("endpoint is not known")
)

// Datapath is the data plane of the node whose network namespace the opening thread is in. Its methods
// may be called concurrently. In a process with one network namespace any goroutine may call them;
// otherwise the caller's thread must be in the node's.
type Datapath struct {
	cfg Config
	log *slog.Logger
}

// Open loads the programs, adopts or creates the pinned maps, makes the node's devices and sysctls, and
// puts the new programs in place of the old. Opening again drops no packet.
// Pinned maps of another layout are replaced and filled anew from what netlink knows.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Datapath, error) {
	return nil, errors.ErrUnsupported
}

// Close releases what this process holds. Programs, maps and traffic stay as they are.
func (d *Datapath) Close() error { return nil }

// Config is what the datapath was opened with, defaults filled in (MTU and Devices as found).
func (d *Datapath) Config() Config { return d.cfg }

// Clean removes everything that this package can have made on a node: endpoints, devices, routes,
// iptables chains, programs, maps and pins, and puts sysctls back as they were found. It needs no
// earlier Open; of cfg it uses HostRoot, BPFFS and Proc only. Cleaning a clean node does nothing.
func Clean(ctx context.Context, cfg Config, log *slog.Logger) error { return errors.ErrUnsupported }
