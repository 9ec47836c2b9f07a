package agent

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/agent/identities"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/watch"
)

// owned is an endpoint's address, and whose it is.
type owned struct {
	hostIf         string
	addr           netip.Addr
	namespace, pod string
	uid            string      // empty of an endpoint that an earlier agent made
	id             identity.ID // 0: not looked for yet
}

// name is that of the pod; none for what is no pod of Kubernetes.
func (o owned) name() api.PodName {
	if o.pod == "" || o.hostIf == healthHostIf() {
		return api.PodName{}
	}
	return api.PodName{Namespace: o.namespace, Name: o.pod}
}

// owned are the endpoints, sorted by address.
func (e *endpoints) owned() []owned {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.known), func(a, b owned) int { return a.addr.Compare(b.addr) })
}

// setIdentity gives an endpoint another identity, if it is still there.
func (e *endpoints) setIdentity(o owned, id identity.ID) error {
	defer e.one(o.hostIf)()
	if addr, ok := e.lookup(o.hostIf); !ok || addr != o.addr {
		return nil
	}
	if err := e.dp.SetIdentity(o.addr, uint32(id)); err != nil {
		return err
	}
	e.mu.Lock()
	now := e.known[o.hostIf]
	now.id = id
	e.known[o.hostIf] = now
	e.mu.Unlock()
	e.changed()
	e.log.Info("endpoint has another identity", "pod", o.namespace+"/"+o.pod, "addr", o.addr, "identity", id, "before", o.id)
	return nil
}

// identifier gives the endpoints of a node their identities.
type identifier struct {
	eps  *endpoints
	pods *identities.Pods
	all  *identities.Watch
	kube *kube
}

// newIdentifier has eps ask for the identities of new endpoints, from now on.
func (a *Agent) newIdentifier(eps *endpoints) (*identifier, error) {
	i := &identifier{eps: eps, all: a.kube.identities, kube: a.kube}
	i.pods = identities.NewPods(a.kube.pods, identity.NewFilter(a.cfg.Labels.Include, a.cfg.Labels.Exclude), i.all.Of, a.log)
	eps.identify = i.of
	return i, watch.Follow(a.kube.podInf, "pods", func(_, _ *corev1.Pod) { i.pods.Changed() })
}

// of is the identity of an endpoint in the making.
func (i *identifier) of(ctx context.Context, req api.CNIRequest) identity.ID {
	if req.ContainerID == healthContainer {
		return identity.Health
	}
	return i.pods.Await(ctx, req.Namespace, req.Pod, req.PodUID)
}

// errFew bounds how many pods an error is about.
const errFew = 3

// apply gives each endpoint the identity that its pod's labels say now. One whose pod is not known, as it is going or the
// API server has not told of it, keeps what it has.
func (i *identifier) apply(ctx context.Context) error {
	if err := i.all.Listed(ctx); err != nil {
		return err
	}
	if !i.kube.podInf.HasSynced() {
		return errors.New("the list of this node's pods is on its way")
	}
	var errs []error
	for _, o := range i.eps.owned() {
		id, err := i.now(ctx, o)
		if id != o.id {
			err = errors.Join(err, i.eps.setIdentity(o, id))
		}
		if err != nil && len(errs) < errFew {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// now is the identity that an endpoint has to have: what it has, or init, with the error that keeps it from its own.
func (i *identifier) now(ctx context.Context, o owned) (identity.ID, error) {
	switch {
	case o.hostIf == healthHostIf():
		return identity.Health, nil
	case o.pod == "":
		return identity.Unmanaged, nil
	}
	id, err := i.pods.Of(ctx, o.namespace, o.pod, o.isOf)
	if err == nil {
		return id, nil
	}
	if errors.Is(err, identities.ErrNoPod) {
		err = nil
	}
	return cmp.Or(o.id, identity.Init), err
}

// isOf says whether the endpoint is that of pod, which has the right name: by the UID, or, if an earlier agent made the
// endpoint, by the address, once the kubelet has reported it.
func (o owned) isOf(pod *corev1.Pod) bool {
	if o.uid != "" {
		return identities.Is(pod, o.uid)
	}
	return pod.Status.PodIP == o.addr.String()
}

func healthHostIf() string { return api.HostIfName(healthContainer, healthIfName) }
