package show

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"wirelab.dev/wirelab/internal/api"
)

// Filter picks from lists. Its zero value picks everything.
type Filter struct {
	Service  string         // "namespace/name", with ":port" behind it or without
	Frontend netip.AddrPort // of port 0: every port of the address
	Addr     netip.Addr     // an end of a flow, before or after
	Identity uint32         // of an endpoint or a prefix; 0: any
}

// Set sets what a person typed for one of the flags "service", "frontend", "address" and
// "identity". An empty value picks everything.
func (f *Filter) Set(flag, value string) error {
	if value == "" {
		return nil
	}
	switch flag {
	case "service":
		return f.setService(value)
	case "frontend":
		return f.setFrontend(value)
	case "address":
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return fmt.Errorf("pick flows by address %q: want one as 10.0.1.7", value)
		}
		f.Addr = addr
		return nil
	case "identity":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n == 0 {
			return fmt.Errorf("pick by identity %q: want its number, as identity list has it", value)
		}
		f.Identity = uint32(n)
		return nil
	}
	return fmt.Errorf("pick by %q: there are service, frontend, address and identity", flag)
}

func (f *Filter) setService(value string) error {
	namespace, name, ok := strings.Cut(value, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("pick Service %q: want namespace/name, as in default/demo", value)
	}
	f.Service = value
	return nil
}

func (f *Filter) setFrontend(value string) error {
	if a, err := netip.ParseAddrPort(value); err == nil {
		f.Frontend = a
		return nil
	}
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return fmt.Errorf("pick frontend %q: want an address, with a port or without, as 10.96.0.10:53", value)
	}
	f.Frontend = netip.AddrPortFrom(addr, 0)
	return nil
}

// FilterUsage is the help of the flags that [Filter.Set] takes, by name.
func FilterUsage(flag string) string {
	switch flag {
	case "service":
		return "only this Service: namespace/name, or namespace/name:port"
	case "frontend":
		return "only frontends at this address, with a port or without"
	case "identity":
		return "only what has this identity, by its number"
	}
	return "only flows that have this address at either end, before or after"
}

// Services picks Services.
func (f Filter) Services(all []api.Service) []api.Service {
	return keep(all, func(s api.Service) bool {
		return f.service(s.Service) && (f.anyFrontend() || slices.ContainsFunc(s.Frontends, func(x api.ServiceFrontend) bool { return f.frontend(x.Addr) }))
	})
}

// Frontends picks entries of the map of Services.
func (f Filter) Frontends(all []api.Frontend) []api.Frontend {
	return keep(all, func(e api.Frontend) bool { return f.service(e.Service) && (f.anyFrontend() || f.frontend(e.Addr)) })
}

// Flows picks flows.
func (f Filter) Flows(all []api.Flow) []api.Flow {
	return keep(all, func(e api.Flow) bool {
		ends := []netip.Addr{e.Src.Addr(), e.Dst.Addr(), e.NewSrc.Addr(), e.NewDst.Addr()}
		return f.service(e.Service) && (!f.Addr.IsValid() || slices.Contains(ends, f.Addr))
	})
}

// Endpoints picks endpoints.
func (f Filter) Endpoints(all []api.LabeledEndpoint) []api.LabeledEndpoint {
	return keep(all, func(e api.LabeledEndpoint) bool { return f.Identity == 0 || e.Identity == f.Identity })
}

// IPCache picks prefixes.
func (f Filter) IPCache(all []api.IPCacheEntry) []api.IPCacheEntry {
	return keep(all, func(e api.IPCacheEntry) bool { return f.Identity == 0 || e.Identity == f.Identity })
}

func (f Filter) service(name string) bool {
	return f.Service == "" || name == f.Service || strings.HasPrefix(name, f.Service+":")
}

func (f Filter) anyFrontend() bool { return !f.Frontend.IsValid() }

func (f Filter) frontend(a netip.AddrPort) bool {
	return a.Addr() == f.Frontend.Addr() && (f.Frontend.Port() == 0 || a.Port() == f.Frontend.Port())
}

func keep[T any](all []T, ok func(T) bool) []T {
	out := []T{}
	for _, x := range all {
		if ok(x) {
			out = append(out, x)
		}
	}
	return out
}
