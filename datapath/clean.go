package datapath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Clean removes everything that this package can have made on a node: endpoints, devices, routes,
// iptables chains, programs, maps and pins, and puts sysctls back as they were found. It needs no
// earlier Open; of cfg it uses HostRoot, BPFFS and Proc only. Cleaning a clean node does nothing.
func Clean(ctx context.Context, cfg Config, log *slog.Logger) error {
	cfg = cfg.withDefaults()
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	// One part that fails must not keep the others.
	err = errors.Join(
		cleanDevices(ctx, nl),
		cleanRoutes(ctx, nl),
		cleanChains(ctx, cfg.HostRoot),
		cleanPins(cfg),
	)
	if err != nil {
		return fmt.Errorf("clean the node: %w", err)
	}
	log.Info("node is clean")
	return nil
}

func cleanDevices(ctx context.Context, nl *netlink.Handle) error {
	veths, err := hostVeths(ctx, nl)
	if err != nil {
		return err
	}
	var errs []error
	for name := range veths {
		errs = append(errs, deleteLink(nl, name))
	}
	errs = append(errs, deleteLink(nl, hostDevice))
	for _, name := range tunnelDevices {
		errs = append(errs, deleteLink(nl, name))
	}
	return errors.Join(append(errs, cleanNICs(ctx, nl))...)
}

// cleanNICs takes filters off devices that are not ours, but for some; links go with their pins.
func cleanNICs(ctx context.Context, nl *netlink.Handle, but ...string) error {
	links, err := dump(ctx, nl.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	var errs []error
	for _, l := range links {
		if isOwnDevice(l.Attrs().Name) || slices.Contains(but, l.Attrs().Name) {
			continue
		}
		in, out := nicHooks(l.Attrs().Name, l.Attrs().Index)
		errs = append(errs, clsact{nl}.detach(in), clsact{nl}.detach(out))
	}
	return errors.Join(errs...)
}

// cleanChains finds nothing to do on a node that has no iptables.
func cleanChains(ctx context.Context, root string) error {
	err := masqueradeChains.remove(ctx, root)
	if errors.Is(err, errNoIPTables) {
		return nil
	}
	return errors.Join(err, hostPortChains.remove(ctx, root), untrackedChains.remove(ctx, root))
}

func cleanRoutes(ctx context.Context, nl *netlink.Handle) error {
	routes, err := ownRoutes(ctx, nl)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range routes {
		if err := nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", r.Dst, err))
		}
	}
	return errors.Join(errs...)
}

// cleanPins puts the remembered sysctls back before their memory is gone. Programs and maps go with
// their last pin.
func cleanPins(cfg Config) error {
	p := pinsAt(cfg.BPFFS)
	remembered, err := ebpf.LoadPinnedMap(p.mapAt(sysctlsMap), nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("open remembered sysctls: %w", err)
	default:
		err = restoreSysctls(cfg.Proc, remembered)
		remembered.Close()
		if err != nil {
			return err
		}
	}
	if err := os.RemoveAll(p.root); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}
