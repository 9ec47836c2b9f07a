package services

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// Frontends is the map of Services, entry by entry, as the datapath sorts it.
func Frontends(ctx context.Context, v *datapath.Services) ([]api.Frontend, error) {
	entries, err := v.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.Frontend, len(entries))
	for i, e := range entries {
		out[i] = api.Frontend{
			ID: e.ID, Service: withoutProto(e.Service), Type: string(e.Kind), Addr: e.Frontend, Protocol: e.Proto,
			From: e.From, Local: e.Local, Affinity: e.Affinity, SourceRanges: e.SourceRanges, Backends: apiBackends(e.Backends),
		}
	}
	return out, nil
}

func apiBackends(backends []lb.EntryBackend) []api.Backend {
	out := make([]api.Backend, len(backends))
	for i, b := range backends {
		out[i] = api.Backend(b)
	}
	return out
}

// withoutProto is the name of a Service's port without the "/tcp" behind it,
// which has a field of its own.
func withoutProto(service string) string {
	if i := strings.LastIndexByte(service, '/'); i >= 0 {
		return service[:i]
	}
	return service
}

// List is the Services that the map's entries make, and those of which
// something is left out, sorted by name.
func List(ctx context.Context, v *datapath.Services, r *Report) ([]api.Service, error) {
	entries, err := Frontends(ctx, v)
	if err != nil {
		return nil, err
	}
	return withLeftOut(servicesFrom(entries), leftOutOf(r.Get())), nil
}

// withLeftOut says of the first port of each Service what is left out of the
// Service, and adds those of which nothing is there.
func withLeftOut(services []api.Service, leftOut map[string][]string) []api.Service {
	for i := range services {
		name := services[i].Service
		if colon := strings.IndexByte(name, ':'); colon >= 0 {
			name = name[:colon]
		}
		services[i].LeftOut = leftOut[name]
		delete(leftOut, name)
	}
	for name, messages := range leftOut {
		services = append(services, api.Service{Service: name, LeftOut: messages})
	}
	slices.SortFunc(services, compareListed)
	return services
}

func compareListed(a, b api.Service) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.ID, b.ID))
}

// servicesFrom puts the entries of each Service together.
func servicesFrom(entries []api.Frontend) []api.Service {
	byID := map[uint32]*api.Service{}
	for _, e := range entries {
		s := byID[e.ID]
		if s == nil {
			s = &api.Service{ID: e.ID, Service: e.Service, Protocol: e.Protocol, Affinity: e.Affinity}
			byID[e.ID] = s
		}
		s.InternalLocal = s.InternalLocal || e.Local && e.From == "inside"
		s.ExternalLocal = s.ExternalLocal || e.Local && e.From == "outside"
		if len(e.SourceRanges) > 0 {
			s.SourceRanges = e.SourceRanges
		}
		if f := (api.ServiceFrontend{Type: e.Type, Addr: e.Addr}); !slices.Contains(s.Frontends, f) {
			s.Frontends = append(s.Frontends, f)
		}
		for _, b := range e.Backends {
			if !slices.Contains(s.Backends, b) {
				s.Backends = append(s.Backends, b)
			}
		}
	}
	out := make([]api.Service, 0, len(byID))
	for _, s := range byID {
		slices.SortFunc(s.Backends, func(a, b api.Backend) int { return a.Addr.Compare(b.Addr) })
		out = append(out, *s)
	}
	slices.SortFunc(out, compareListed)
	return out
}

// Flows is the translated flows as they are opened.
func Flows(ctx context.Context, v *datapath.Services) ([]api.Flow, error) {
	flows, err := v.Flows(ctx)
	return named(flows), err
}

// Translations is the translated flows as their answers come.
func Translations(ctx context.Context, v *datapath.Services) ([]api.Flow, error) {
	flows, err := v.Translations(ctx)
	return named(flows), err
}

// named leaves the protocol, which flows have beside, out of their Services' names.
func named(flows []api.Flow) []api.Flow {
	for i := range flows {
		flows[i].Service = withoutProto(flows[i].Service)
	}
	return flows
}
