package services

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/api"
)

// List is the Services that the map's entries make, and those of which
// something is left out, sorted by name.
func List(ctx context.Context, v *datapath.Services, r *Report) ([]api.Service, error) {
	entries, err := v.List(ctx)
	if err != nil {
		return nil, err
	}
	return withLeftOut(servicesFrom(entries), leftOutOf(r.Get())), nil
}

// withLeftOut says of the first port of each Service what is left out of the
// Service, and adds those of which nothing is there.
func withLeftOut(services []api.Service, leftOut map[string][]string) []api.Service {
	for i := range services {
		name, _, _ := strings.Cut(services[i].Service, ":")
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
		i := slices.IndexFunc(s.Frontends, func(f api.ServiceFrontend) bool { return f.Type == e.Type && f.Addr == e.Addr })
		if i < 0 {
			i = len(s.Frontends)
			s.Frontends = append(s.Frontends, api.ServiceFrontend{Type: e.Type, Addr: e.Addr})
		}
		s.Frontends[i].Backends = withBackends(s.Frontends[i].Backends, e.Backends)
		s.Backends = withBackends(s.Backends, e.Backends)
	}
	out := make([]api.Service, 0, len(byID))
	for _, s := range byID {
		out = append(out, *s)
	}
	slices.SortFunc(out, compareListed)
	return out
}

// withBackends adds those of more that all does not have, and keeps all sorted by address.
func withBackends(all, more []api.Backend) []api.Backend {
	for _, b := range more {
		if !slices.Contains(all, b) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b api.Backend) int { return a.Addr.Compare(b.Addr) })
	return all
}
