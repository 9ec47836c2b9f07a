package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
)

// published are the endpoints as other nodes are told of them, sorted by address.
func (e *endpoints) published() []crd.Endpoint {
	out := []crd.Endpoint{}
	for _, o := range e.owned() {
		id := cmp.Or(o.id, identity.Init)
		out = append(out, crd.Endpoint{Address: o.addr, Identity: uint32(id), Pod: o.name().String()})
	}
	return out
}

// publishEvery is how far apart what other nodes are told is changed at least: a node whose pods start together tells of
// them together.
const publishEvery = time.Second

// publisher keeps the status of the node's LabNode what the node's endpoints are.
type publisher struct {
	labNode
	eps *endpoints
	// taken is what the API server has taken last; nil: nothing yet.
	taken []crd.Endpoint
	// unsure says that the last write failed, and may be carried out all the same.
	unsure bool
}

// paced is apply, which changes nothing sooner than publishEvery after the last change. By then what it has written is
// heard of, too, and not written again.
func (p *publisher) paced() func(context.Context) error {
	return paced(func(ctx context.Context) (next time.Time, err error) {
		endpoints := p.eps.published()
		have := p.kube.labNodes.Find(p.nodeName)
		if have == nil {
			return next, p.listed(ctx)
		}
		if !p.unsure && slices.Equal(have.Status.Endpoints, endpoints) {
			if p.taken == nil || slices.Equal(p.taken, endpoints) { // else what was written last is not heard of yet
				p.eps.pool.Told(addrsOf(endpoints))
			}
			return next, p.listed(ctx)
		}
		next = time.Now().Add(publishEvery)
		return next, p.apply(ctx, endpoints)
	})
}

func (p *publisher) apply(ctx context.Context, endpoints []crd.Endpoint) error {
	body, err := json.Marshal(map[string]any{"status": map[string]any{"endpoints": endpoints, "endpointCount": len(endpoints)}})
	if err != nil {
		return fmt.Errorf("encode the endpoints of this node: %w", err)
	}
	p.unsure = true
	p.eps.pool.Telling(addrsOf(endpoints))
	if _, err := p.objects.Patch(ctx, p.nodeName, types.MergePatchType, body, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("write the endpoints of this node into LabNode %s: %w", p.nodeName, crd.Explain(crd.LabNodes, err))
	}
	p.taken, p.unsure = endpoints, false
	p.eps.pool.Told(addrsOf(endpoints))
	return nil
}

func addrsOf(published []crd.Endpoint) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(published))
	for _, ep := range published {
		addrs = append(addrs, ep.Address)
	}
	return addrs
}
