// Package datapath is a node's data plane: it loads and attaches the BPF programs, keeps their maps, and
// makes devices, routes, sysctls and iptables chains match what it is told. It knows no Kubernetes type.
//
// All state is in the kernel: pinned links and maps, netlink objects, iptables chains of its own. A
// process that stops leaves pods and their traffic as they are; the next one picks up from there.
package datapath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath/lb"
)

var (
	// ErrAddrInUse is wrapped by AddEndpoint's error when a live endpoint has the address already.
	ErrAddrInUse = errors.New("address is in use")
	// ErrUnknownEndpoint is wrapped by CheckEndpoint's error when there is no such endpoint at all.
	ErrUnknownEndpoint = errors.New("endpoint is not known")
)

// Datapath is the data plane of the node whose network namespace the opening thread is in. Its methods
// may be called concurrently, but for those that change endpoints: the caller makes one call about an
// endpoint at a time, and none beside SyncEndpoints and KeepEndpoints. In a process with one network namespace any goroutine may call them;
// otherwise the caller's thread must be in the node's.
type Datapath struct {
	cfg      Config
	log      *slog.Logger
	pins     pins
	maps     *maps
	progs    *programs
	attacher attacher
	nl       *netlink.Handle

	asksConntrack    bool // whether the programs ask the kernel's connection tracking
	services         serviceEngine
	hostPortsLeftOut leftOutNow
	chains           sync.Mutex // one iptables read and write at a time
	nodes            sync.Mutex // one change of lab_nodes at a time
	ipcache          sync.Mutex // one change of lab_ipcache at a time
	purging          sync.Mutex // held by who purges addresses, and who takes one that rests
	routed           routed
	nics             nics
	events           hub
}

// Open loads the programs, adopts or creates the pinned maps, makes the node's devices and sysctls, and
// puts the new programs in place of the old. Opening again drops no packet.
// Pinned maps of an older layout that are the same in this one are used; entries of the others are converted: see upgrades.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (_ *Datapath, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("check the datapath's settings: %w", err)
	}
	if err := cfg.askKernel(); err != nil {
		return nil, err
	}
	d := &Datapath{cfg: cfg, log: log, pins: pinsAt(cfg.BPFFS)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := d.findNICs(ctx); err != nil {
		return nil, err
	}
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		d.Sysctls().Apply,
		d.Devices().Apply,
		func(ctx context.Context) error {
			seen, err := d.look(ctx)
			if err != nil {
				return err
			}
			return d.attachEndpoints(ctx, seen)
		},
		d.dropOtherModes,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	// Until they were replaced, the programs of the older layout have entered flows into its maps.
	if err := errors.Join(d.maps.carryOver(ebpf.UpdateNoExist), d.maps.closePredecessors()); err != nil {
		return nil, err
	}
	if err := d.pins.dropOtherLayouts(); err != nil {
		return nil, err
	}
	d.log.Info("datapath is open", "mode", d.cfg.Mode(), "hostRouting", d.cfg.Roles().Routing, "attach", d.attacher.kind(), "tunnel", d.cfg.tunnelDevice(), "devices", d.devices(), "leftOut", strings.Join(d.LeftOut(), "; "), "mtu", d.mtu())
	return d, nil
}

// load opens the maps, with all endpoints in them, before a program can look one up.
func (d *Datapath) load(ctx context.Context) (err error) {
	if err := d.pins.prepare(); err != nil {
		return err
	}
	if d.maps, err = openMaps(d.pins, d.cfg); err != nil {
		return err
	}
	if d.maps.services != nil {
		d.services.balancer = lb.New(d.maps.services.balanced())
	}
	if _, err := d.restoreEntries(ctx); err != nil {
		return err
	}
	if err := d.chooseNAT(); err != nil {
		return err
	}
	if d.cfg.KubeProxyReplacement {
		d.wakeConntrack()
	}
	if d.progs, err = loadPrograms(d.Config(), d.maps); err != nil {
		return err
	}
	return d.chooseAttacher()
}

// Close releases what this process holds. Programs, maps and traffic stay as they are.
func (d *Datapath) Close() error {
	var errs []error
	d.events.close()
	if d.progs != nil {
		errs = append(errs, d.progs.close())
	}
	if d.maps != nil {
		errs = append(errs, d.maps.close())
	}
	if d.nl != nil {
		d.nl.Close()
	}
	return errors.Join(errs...)
}

// Config is what the datapath was opened with, defaults filled in: MTU and Devices as they are now, Mode as it
// is in force.
func (d *Datapath) Config() Config {
	cfg := d.cfg
	cfg.Devices, cfg.MTU = d.devices(), d.mtu()
	return cfg
}
