package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
)

// endpointList is all endpoints, sorted by address, read back.
func endpointList(ctx context.Context, n *node) ([]api.LabeledEndpoint, error) {
	eps, err := n.dp.Endpoints(ctx)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	out := make([]api.LabeledEndpoint, len(eps))
	for i, ep := range eps {
		out[i] = api.LabeledEndpoint{Endpoint: ep, Labels: n.ids.labels(identity.ID(ep.Identity))}
	}
	return out, nil
}

// labels are those that an identity stands for; nil for one of no pods.
func (i *identifier) labels(id identity.ID) map[string]string {
	e, _ := i.all.Numbers().Get(id)
	return e.Set.Labels
}

// identityList is all identities that the node knows, sorted by number, with the pods of this node that have them.
func identityList(_ context.Context, n *node) ([]api.Identity, error) {
	pods := map[identity.ID][]string{}
	for _, o := range n.eps.owned() {
		if o.pod != "" {
			pods[o.id] = append(pods[o.id], o.namespace+"/"+o.pod)
		}
	}
	var out []api.Identity
	add := func(i api.Identity) {
		i.Pods = append([]string{}, pods[identity.ID(i.ID)]...)
		slices.Sort(i.Pods)
		out = append(out, i)
	}
	for id, name := range identity.Reserved() {
		add(api.Identity{ID: uint32(id), Name: name})
	}
	now := time.Now()
	for _, e := range n.ids.all.Numbers().All() {
		add(api.Identity{ID: uint32(e.ID), Namespace: e.Set.Namespace, ServiceAccount: e.Set.ServiceAccount, Labels: e.Set.Labels, Retired: e.Retired(now)})
	}
	slices.SortFunc(out, func(a, b api.Identity) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
